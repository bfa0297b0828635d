"""Open a file of tensors by its content, never by its name: safetensors, PyTorch's archive, a pickle, an image."""

import mmap
import os
from typing import Any

import numpy as np

from textual_inversion.formats import paddle_file, safetensors_file, torch_file, webui_png
from textual_inversion.formats.budget import Budget
from textual_inversion.formats.errors import BrokenFile, NotAnEmbedding
from textual_inversion.formats.signatures import other_kind
from textual_inversion.formats.unpickle import interpret
from textual_inversion.system import user_files
from textual_inversion.system.errors import EmbeddingFileError

_TEXT_PICKLE = b"(c}])iSVNIFLp"  # what a pickle of protocol 0 or 1 may begin with


def read_content(data: memoryview, budget: Budget) -> tuple[Any, dict[str, str]]:
    """The object in a file (its tensors as `arrays.Tensor`, read when they are asked for) and its metadata.

    Raises:
        EmbeddingFileError: one of its subclasses in `formats.errors`; `naming` adds the file's name to the message.
    """
    if len(data) == 0:
        raise BrokenFile("is empty")
    if torch_file.is_archive(data):
        return torch_file.read_archive(data, budget), {}
    if safetensors_file.is_safetensors(data):
        return safetensors_file.stored_tensors(data, budget)
    if data[0] == 0x80:
        return (torch_file.read_plain if _is_plain_torch(data) else paddle_file.read_pickle)(data, budget), {}
    described = other_kind(bytes(data[:32]))
    if described:
        raise NotAnEmbedding(described)
    if data[0] in _TEXT_PICKLE:
        return paddle_file.read_pickle(data, budget), {}
    raise NotAnEmbedding("is neither safetensors nor a pickle of Paddle or PyTorch")


def read_embedding_content(data: memoryview, budget: Budget) -> tuple[Any, dict[str, str]]:
    """As `read_content`, also of an image that holds an embedding."""
    return (webui_png.read_png(data, budget), {}) if webui_png.is_png(data) else read_content(data, budget)


def container_of(data: memoryview) -> str:
    """What kind of file `read_embedding_content` reads, for people."""
    if torch_file.is_archive(data):
        return "PyTorch's archive"
    if safetensors_file.is_safetensors(data):
        return "safetensors"
    if webui_png.is_png(data):
        return "a PNG image"
    return "PyTorch's form before 1.6" if data[:1] == b"\x80" and _is_plain_torch(data) else "a pickle, as of Paddle"


def read_whole(path: str | os.PathLike[str], most_bytes: int) -> memoryview:
    """The bytes of a regular file; raises OSError, or NotAnEmbedding for more than `most_bytes`."""
    with user_files.opened(path, user_files.WEIGHTS) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most_bytes:
            raise NotAnEmbedding(f"has {size / 1e6:.0f} MB; an embedding has a few kilobytes")
        return memoryview(file.read(size))


def read_or_map(path: str | os.PathLike[str], most_bytes: int) -> memoryview:
    """The bytes of a regular file, mapped into memory if it has more than `most_bytes` and comes from PyTorch.

    PyTorch stores the whole table of a text encoder with a view of a few rows. Of a mapped file only what is looked at
    is read.

    Raises:
        OSError: as `read_whole`.
        NotAnEmbedding: another kind of file has more than `most_bytes`.
    """
    data = map_whole(path)
    if len(data) <= most_bytes:
        return read_whole(path, most_bytes)  # a mapped file that somebody shortens would end the process
    if torch_file.is_archive(data) or _is_plain_torch(data):
        return data
    raise NotAnEmbedding(f"has {len(data) / 1e6:.0f} MB; an embedding has a few kilobytes")


def map_whole(path: str | os.PathLike[str]) -> memoryview:
    """The bytes of a regular file, mapped into memory; raises OSError."""
    descriptor = user_files.descriptor(path, user_files.WEIGHTS)
    try:
        if os.fstat(descriptor).st_size == 0:
            return memoryview(b"")
        return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
    finally:
        os.close(descriptor)


def release_pages(array: np.ndarray) -> None:
    """Release the pages of a mapped file that were read for an array; a later access reads them again.

    Until then, they count as memory of the process. Does nothing for an array that is not a view of a mapped file.
    """
    base = array
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    file = base.obj if isinstance(base, memoryview) else base
    if isinstance(file, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        file.madvise(mmap.MADV_DONTNEED)


def _is_plain_torch(data: memoryview) -> bool:
    """Whether the first pickle is PyTorch's magic number alone, which takes 15 bytes."""
    try:
        return interpret(data[:32], {})[0] == torch_file.PLAIN_MAGIC
    except EmbeddingFileError:
        return False
