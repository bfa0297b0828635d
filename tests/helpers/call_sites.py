"""Calls in the program's source, for rules that every call has to keep."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

from helpers.paths import ROOT

COMMANDS = ("train_textual_inversion.py", "infer.py", "score.py", "sweep.py", "teach.py")


def program_files() -> list[Path]:
    """The library and the commands."""
    return [*sorted((ROOT / "textual_inversion").rglob("*.py")), *(ROOT / name for name in COMMANDS)]


def calls(paths: Iterable[Path]) -> Iterator[tuple[str, str, str, ast.Call]]:
    """(file, enclosing functions, dotted name, node) of each call; the file relative to the checkout."""
    for path in paths:
        name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
        for scope, node in _nodes(ast.parse(path.read_text(encoding="utf-8")), ""):
            if isinstance(node, ast.Call):
                yield name, scope, _dotted(node.func), node


def _nodes(node: ast.AST, scope: str) -> Iterator[tuple[str, ast.AST]]:
    for child in ast.iter_child_nodes(node):
        yield scope, child
        is_scope = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        yield from _nodes(child, f"{scope}.{child.name}".lstrip(".") if is_scope else scope)


def _dotted(function: ast.AST) -> str:
    """`os.open` as "os.open"; of a method of an expression "?.name"."""
    if isinstance(function, ast.Name):
        return function.id
    if isinstance(function, ast.Attribute):
        owner = _dotted(function.value) if isinstance(function.value, (ast.Name, ast.Attribute)) else "?"
        return f"{owner}.{function.attr}"
    return "?"
