"""Reading this project's Markdown: headings, tables, links, and the commands that it shows."""

import importlib.util
import re
import shlex
import sys
from types import ModuleType

from helpers.paths import ROOT

READMES = ("README.md", "README_zh.md")
_MARKDOWN = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
PAGES = tuple(page for page in _MARKDOWN if "/_build/" not in page)
DOCUMENTS = (*READMES, "CONTRIBUTING.md", *PAGES)
_FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def script_of_docs(name: str) -> ModuleType:
    """A script of docs/, which is no package."""
    module = sys.modules.get(f"docs_{name}")
    if module is None:
        spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


flags = script_of_docs("flags")


def read(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def code_blocks(text: str) -> list[tuple[str, str]]:
    """(language, contents) of every fenced block."""
    return _FENCE.findall(text)


def prose(text: str) -> str:
    """A text without its fenced blocks."""
    return _FENCE.sub("", text)


def headings(text: str) -> list[tuple[int, str]]:
    """(level, title) of every heading outside code."""
    return [(len(m[1]), m[2]) for m in re.finditer(r"^(#+) (.+)$", prose(text), re.MULTILINE)]


def tables(text: str) -> list[list[list[str]]]:
    """Every table as rows of cells, without its head."""
    found, rows = [], []
    for line in [*prose(text).splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            found.append(rows[2:])
            rows = []
    return found


def links(text: str) -> list[str]:
    """Targets of links and images outside code."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(text))


def command_lines(document: str) -> list[list[str]]:
    """Every command in the bash blocks as its words, exported variables filled in."""
    found = []
    for language, block in code_blocks(read(document)):
        if language != "bash":
            continue
        block = block.replace("\\\n", " ")
        for name, value in re.findall(r'^export (\w+)="(.*)"$', block, re.MULTILINE):
            block = block.replace(f"${name}", value)
        for line in block.splitlines():
            found += split_command(line)
    return found


def split_command(line: str) -> list[list[str]]:
    """The commands of a shell line as their words."""
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    parts: list[list[str]] = [[]]
    for word in words:
        if word == "&&":
            parts.append([])
        else:
            parts[-1].append(word)
    return [part for part in parts if part and part[0] != "export"]


def own_commands(document: str) -> list[tuple[str, list[str]]]:
    """(command, its arguments) of every call of one of the three scripts, launched or not; output may go to a file."""
    found = []
    for words in command_lines(document):
        for command, script in flags.SCRIPTS.items():
            if script in words:
                argv = words[words.index(script) + 1 :]
                found.append((command, argv[: argv.index(">")] if ">" in argv[:-1] else argv))
    return found
