"""What can be wrong with a file from outside; the tree is drawn in `formats.py`, which hands these names on."""

import contextlib
import os
import struct
from collections.abc import Callable, Iterator

from textual_inversion.system.errors import EmbeddingFileError

_DAMAGE = (
    ArithmeticError, AttributeError, IndexError, KeyError, MemoryError, RecursionError, TypeError, ValueError,
    struct.error,
)  # fmt: skip


class UnreadableFile(EmbeddingFileError):
    """The file is not there, is a folder or a device, or may not be read."""

    way_out = "check the path"


class NotAnEmbedding(EmbeddingFileError):
    """A file of another kind, or one of a known kind that holds something else."""

    way_out = "choose a .pdparams, .safetensors, .pt or .bin file of learned vectors"


class RefusedFile(EmbeddingFileError):
    """A pickle that asks for something beyond arrays and containers; the message names it."""

    way_out = "nothing of it was run; ask its maker for a .safetensors file"


class BrokenFile(EmbeddingFileError):
    """A file that is cut short, damaged, or declares more than it holds."""

    way_out = "download or copy it again"


class WrongValues(EmbeddingFileError):
    """Values of a type other than floating point, not finite, or of a shape that is no list of vectors."""

    way_out = "save it again as finite float32 vectors [N, D]"


class WrongWidth(EmbeddingFileError):
    """Vectors made for a base model with text encoders of another width."""

    way_out = "choose the base model that it was made for (--pretrained_model_name_or_path)"


class UnusableToken(EmbeddingFileError):
    """A placeholder token that is empty or holds blanks or control characters."""

    way_out = "give it another name, such as <my-word>"


class TokenTaken(EmbeddingFileError):
    """A placeholder token that the tokenizer already knows."""

    way_out = "give it another name, such as <my-word>"


def printable(text: object, longest: int = 120) -> str:
    """`text` fit for one line on a terminal: what comes from a file may hold line breaks and escape sequences."""
    cut = str(text)[: longest + 1]
    shown = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in cut)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def file_name(path: str | os.PathLike[str]) -> str:
    """The path as messages show it."""
    return printable(os.fspath(path), 300)


@contextlib.contextmanager
def naming(path: str | os.PathLike[str], wanted: str = NotAnEmbedding.way_out) -> Iterator[None]:
    """Complete the errors of a reader to one line, `FILE: what is wrong; the way out`.

    `wanted` is the way out where the file is of another kind than the reader's. Nothing that a damaged file makes
    Python raise leaves here as anything but BrokenFile.
    """
    try:
        yield
    except EmbeddingFileError as error:
        way_out = wanted if isinstance(error, NotAnEmbedding) else type(error).way_out
        raise type(error)(f"{file_name(path)}: {error}; {way_out}") from error
    except OSError as error:
        raise UnreadableFile(f"{file_name(path)}: {error.strerror or error}; {UnreadableFile.way_out}") from error
    except _DAMAGE as error:
        raise BrokenFile(f"{file_name(path)}: damaged ({type(error).__name__}); {BrokenFile.way_out}") from error


@contextlib.contextmanager
def near(position: Callable[[], int]) -> Iterator[None]:
    """Turn what a damaged pickle makes Python raise into a BrokenFile that says where."""
    try:
        yield
    except _DAMAGE as error:
        raise BrokenFile(f"damaged near byte {position()} ({type(error).__name__})") from error
