"""The library of learned words: all embedding files of the workspace, its runs and the chosen roots."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from textual_inversion.embeddings.inspection import described, report
from textual_inversion.formats.embedding_file import read_embeddings
from textual_inversion.formats.errors import printable
from textual_inversion.studio import runs
from textual_inversion.studio.workspace import Workspace, folder_name
from textual_inversion.system import atomic, user_files
from textual_inversion.system.errors import EmbeddingFileError, TextualInversionError
from textual_inversion.system.paths import ROOT

MOST_BYTES = 64 << 20  # of a dropped file; a hundred vectors of the largest model have half a megabyte
_ENDINGS = (".pdparams", ".safetensors", ".pt", ".bin", ".png", ".webp", ".pth", ".ckpt")
_MOST_FILES = 2000
DEMO = ROOT / "demo" / "learned_embeds.pdparams"


@dataclass(frozen=True)
class WordFile:
    """An embedding file of the library.

    Attributes:
        path: absolute.
        label: what it is called in lists: the run and the step, or the file.
        tokens: its placeholder tokens; () where it cannot be read.
        problem: why it cannot be read, in a line; "" where it can.
        is_own: it was dropped or made in the page, and may be deleted there.
    """

    path: Path
    label: str
    tokens: tuple[str, ...] = ()
    problem: str = ""
    is_own: bool = False


def library(workspace: Workspace, run_folders: Sequence[Path]) -> list[WordFile]:
    """All embedding files: of the page's own folder, of each run the final, best and step files, and the demo's."""
    found = [*_own(workspace)]
    for folder in run_folders:
        run = runs.Run(folder, runs.UNKNOWN)
        found += [_word(path, f"{folder.name} · {name}") for name, path in _in_order(run.embeddings)]
    if DEMO.is_file():
        found.append(_word(DEMO, f"demo · {DEMO.name}"))
    return found[:_MOST_FILES]


def _own(workspace: Workspace) -> Iterator[WordFile]:
    try:
        entries = sorted(os.scandir(workspace.part("words")), key=lambda one: one.name)
    except OSError:
        return
    for entry in entries:
        if entry.is_file(follow_symlinks=False) and entry.name.lower().endswith(_ENDINGS):
            yield _word(Path(entry.path), entry.name, is_own=True)


def _in_order(embeddings: dict[str, Path]) -> list[tuple[str, Path]]:
    steps = sorted((name for name in embeddings if name.isdigit()), key=int)
    return [(name, embeddings[name]) for name in ("final", "best", *steps) if name in embeddings]


_read: dict[tuple[str, int, int], tuple[tuple[str, ...], str]] = {}


def _word(path: Path, label: str, *, is_own: bool = False) -> WordFile:
    try:
        status = path.stat()
    except OSError as error:
        return WordFile(path, label, problem=f"{error.strerror}", is_own=is_own)
    key = (str(path), status.st_size, status.st_mtime_ns)
    if key not in _read:
        if len(_read) > 2 * _MOST_FILES:
            _read.clear()
        _read[key] = _tokens(path)
    tokens, problem = _read[key]
    return WordFile(path, label, tokens, problem, is_own)


def _tokens(path: Path) -> tuple[tuple[str, ...], str]:
    try:
        return tuple(one.placeholder_token for one in read_embeddings(path)), ""
    except TextualInversionError as error:
        return (), str(error)


def described_in_lines(path: Path) -> list[str]:
    """What `convert.py inspect` says of a file; raises EmbeddingFileError."""
    return report(described(str(path)))


def keep(workspace: Workspace, name: str, content: bytes) -> Path:
    """Keep an embedding file that was dropped into the page, once the safe reader has read it.

    Args:
        name: what the browser calls it; only the letters of it that are safe are kept.

    Raises:
        EmbeddingFileError: it is no embedding, or too large; nothing is kept of it.
    """
    if len(content) > MOST_BYTES:
        size = f"{user_files.size_text(len(content))}, more than {user_files.size_text(MOST_BYTES)}"
        raise EmbeddingFileError(f"{printable(name, 60)} has {size}; an embedding is far smaller")
    path = free_path(workspace, name)
    atomic.write_bytes(path, content)
    try:
        if not read_embeddings(path):
            raise EmbeddingFileError(f"{printable(name, 60)} holds no embedding")
    except BaseException:
        atomic.remove_file(path)
        raise
    return path


def free_path(workspace: Workspace, name: str, ending: str | None = None) -> Path:
    """A file of the library that is not there yet, for something that is called `name`."""
    stem, own = os.path.splitext(os.path.basename(name.replace("\\", "/")))
    ending = ending or (own.lower() if own.lower() in _ENDINGS else ".bin")
    folder, stem = workspace.part("words"), folder_name(stem)
    names = (stem if number == 1 else f"{stem}-{number}" for number in range(1, 100_000))
    return next(folder / f"{one}{ending}" for one in names if not (folder / f"{one}{ending}").exists())


def steps_of(run_folder: Path) -> list[tuple[str, Path]]:
    """(name, file) of what a run learned: final, best and each step."""
    return _in_order(runs.Run(run_folder, runs.UNKNOWN).embeddings)


def tokens_of(path: Path) -> tuple[str, ...]:
    """The placeholder tokens in a file; () where it cannot be read."""
    return _word(path, "").tokens


def mix_expression(parts: Sequence[tuple[Path, str, float]]) -> str:
    """What `convert.py mix` is told: a sum of words of files with their weights."""
    return " + ".join(f"{{{path}}}:{{{token}}}*{weight:g}" for path, token, weight in parts)
