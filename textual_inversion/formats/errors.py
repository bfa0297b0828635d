"""What can be wrong with a file from a stranger; `formats.embedding_file` shows the tree of these errors."""

import contextlib
import os
import struct
from collections.abc import Callable, Iterator, Mapping

from textual_inversion.system.errors import ConceptError, EmbeddingFileError
from textual_inversion.system.terminal_text import visible

_DAMAGE = (
    ArithmeticError, AttributeError, IndexError, KeyError, MemoryError, RecursionError, TypeError, ValueError,
    struct.error,
)  # fmt: skip


class UnreadableFile(EmbeddingFileError):
    """The file does not exist, is a folder or a device, or may not be read."""

    way_out = "check the path"


class NotAnEmbedding(EmbeddingFileError):
    """The file is of another kind, or of a known kind but with other contents."""

    way_out = "choose a .pdparams, .safetensors, .pt or .bin file of learned vectors"


class RefusedFile(EmbeddingFileError):
    """The file is a pickle that asks for more than arrays and containers; the message names it."""

    way_out = "nothing in it was run; ask its author for a .safetensors file"


class BrokenFile(EmbeddingFileError):
    """The file is cut short, damaged, or declares more than it holds."""

    way_out = "download or copy it again"


class AsksTooMuch(EmbeddingFileError):
    """Reading the file would take more memory or work than any embedding or model of its size needs."""

    way_out = "nothing of it was kept; ask its author for a .safetensors file"


class WrongValues(EmbeddingFileError):
    """The values are not floating point, not finite, or not a list of vectors."""

    way_out = "save it again as finite float32 vectors [N, D]"


class WrongWidth(EmbeddingFileError):
    """The vectors were made for a base model with text encoders of another width."""

    way_out = "choose the base model that it was made for (--pretrained_model_name_or_path)"


class UnusableToken(EmbeddingFileError, ConceptError):
    """A placeholder token, from a file or a flag, is empty, too long, or holds blanks or control characters."""

    way_out = "choose another, such as <cat-toy>"


class TokenTaken(EmbeddingFileError, ConceptError):
    """A placeholder token, from a file or a flag, is already a token of the base model."""

    way_out = "choose another, such as <cat-toy>"


def printable(text: object, longest: int = 120) -> str:
    """`text` made safe for one line on a terminal: text from a file may hold line breaks and escape sequences."""
    cut = str(text)[: longest + 1]
    shown = visible(cut)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def quoted(value: object, longest: int = 60) -> str:
    """A name from a file in quotes, safe for one line; of what is no text or number only its type is shown.

    `repr` of nested containers may take exponential time.
    """
    if isinstance(value, str):
        return printable(repr(value[: longest + 1]), longest)
    return printable(repr(value)) if value is None or isinstance(value, (int, float)) else type(value).__name__


def file_name(path: str | os.PathLike[str]) -> str:
    """The path as messages show it."""
    return printable(os.fspath(path), 300)


@contextlib.contextmanager
def naming(
    path: str | os.PathLike[str], ways_out: Mapping[type[EmbeddingFileError], str] | None = None
) -> Iterator[None]:
    """Turn the errors of a reader into one line, `FILE: what is wrong; the way out`.

    OSError becomes UnreadableFile. Whatever else a damaged file makes Python raise becomes BrokenFile.

    Args:
        ways_out: by the class of an error, the way out to name instead of its own.
    """
    try:
        yield
    except EmbeddingFileError as error:
        way_out = (ways_out or {}).get(type(error), type(error).way_out)
        raise type(error)(f"{file_name(path)}: {error}; {way_out}") from error
    except OSError as error:
        raise UnreadableFile(f"{file_name(path)}: {error.strerror or error}; {UnreadableFile.way_out}") from error
    except _DAMAGE as error:
        raise BrokenFile(f"{file_name(path)}: damaged ({type(error).__name__}); {BrokenFile.way_out}") from error


@contextlib.contextmanager
def near(position: Callable[[], int]) -> Iterator[None]:
    """Turn what a damaged pickle makes Python raise into a BrokenFile that names the position."""
    try:
        yield
    except _DAMAGE as error:
        raise BrokenFile(f"damaged near byte {position()} ({type(error).__name__})") from error
