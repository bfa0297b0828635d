"""Read and write safetensors: 8 bytes of header length, a JSON header, the values.

Format: https://github.com/huggingface/safetensors (README, "Format"). Every size that the header declares is checked
against the file before an array is made. The tensors must fill the file without gaps or overlaps, so what is read never
takes more memory than the file is long, apart from conversions.
"""

import io
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np

from textual_inversion.formats.arrays import Tensor, checked_shape, to_float32, view, widened
from textual_inversion.formats.budget import Budget
from textual_inversion.formats.errors import BrokenFile, NotAnEmbedding, WrongValues, printable
from textual_inversion.formats.signatures import other_kind
from textual_inversion.system.checked_json import parse_json

LONGEST_HEADER = 4 << 20  # bytes; a U-Net of 1700 tensors takes 0.3 MB
_CODES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "b1",
}  # fmt: skip
_ALIGNMENT = 8  # bytes; the offset of the first value is a multiple


def is_safetensors(data: memoryview, size: int | None = None) -> bool:
    """Whether a file begins with a header length that fits it and a JSON object.

    Args:
        data: its first 10 bytes or more.
        size: of the whole file in bytes, where `data` is not all of it.
    """
    size = len(data) if size is None else size
    return len(data) >= 10 and int.from_bytes(data[:8], "little") <= size - 8 and data[8] == ord("{")


class SafetensorsFile(Mapping[str, np.ndarray]):
    """The tensors of one safetensors file by name, each read when it is asked for.

    They have the precision of the file, except that bfloat16 arrives as float32.

    Args:
        size: length of the file in bytes.
        read: gives the bytes from one offset to another.
        longest_header: the most bytes of header that are read.

    Attributes:
        metadata: the text entries under `__metadata__`.

    Raises:
        NotAnEmbedding: it is a file of another kind.
        BrokenFile: its header is not JSON, or declares what the file does not hold.
        WrongValues: when a tensor is read whose type is not known, such as 8-bit floats.
    """

    def __init__(self, size: int, read: Callable[[int, int], memoryview], longest_header: int = LONGEST_HEADER):
        beginning = read(0, min(size, 64))
        if not is_safetensors(beginning, size):
            described = other_kind(bytes(beginning))
            raise NotAnEmbedding(described) if described else BrokenFile("is not a safetensors file, or is cut short")
        length = int.from_bytes(beginning[:8], "little")
        if length > longest_header:
            raise BrokenFile(f"has a header of {length} bytes; no embedding or model needs more than {longest_header}")
        self._read, self._start = read, 8 + length
        header = _parsed(bytes(read(8, self._start)))
        self.metadata = _metadata(header.pop("__metadata__", None))
        self._header = _checked_entries(header, size - self._start)

    def __getitem__(self, name: str) -> np.ndarray:
        entry = self._header[name]
        code = _CODES.get(entry["dtype"])
        if code is None:
            shown = printable(entry["dtype"], 40)
            raise WrongValues(f"holds {printable(name)} as {shown}; float32, float16 and bfloat16 can be read")
        begin, end = entry["data_offsets"]
        array = view(self._read(self._start + begin, self._start + end), np.dtype(code), self.shape(name))
        return widened(array) if entry["dtype"] == "BF16" else array

    def __contains__(self, name: object) -> bool:
        return name in self._header  # Mapping's own would read the tensor

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, without reading the tensor."""
        return tuple(self._header[name]["shape"])

    def data_type(self, name: str) -> str:
        """A tensor's stored type, such as "F16"."""
        return self._header[name]["dtype"]

    @property
    def data_types(self) -> set[str]:
        """The stored types, such as "F16"."""
        return {entry["dtype"] for entry in self._header.values()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._header)

    def __len__(self) -> int:
        return len(self._header)


class StoredTensor(Tensor):
    """One tensor of a safetensors file."""

    def __init__(self, file: SafetensorsFile, name: str, budget: Budget):
        self._file, self._name, self._budget = file, name, budget

    @property
    def stored_shape(self) -> tuple[int, ...]:
        return self._file.shape(self._name)

    @property
    def stored_type(self) -> str:
        code = self._file.data_type(self._name)
        return "bfloat16" if code == "BF16" else np.dtype(_CODES[code]).name if code in _CODES else printable(code, 20)

    def to_numpy(self) -> np.ndarray:
        """The values, as a view of the file where possible; raises BrokenFile or WrongValues."""
        return to_float32(self._file[self._name], self._budget)


def read_safetensors(data: memoryview) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """All tensors by name, as views of `data` where possible (floating point as float32), and the metadata.

    Raises:
        NotAnEmbedding, BrokenFile, WrongValues: see `SafetensorsFile`.
        AsksTooMuch: as floats of 32 bits they are more than four times the file.
    """
    tensors, metadata = stored_tensors(data, Budget.of_weights(len(data)))
    return {name: tensor.to_numpy() for name, tensor in tensors.items()}, metadata


def stored_tensors(data: memoryview, budget: Budget) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """As `read_safetensors`, but each tensor is read when it is asked for, and charged to `budget`.

    Raises:
        NotAnEmbedding, BrokenFile: see `SafetensorsFile`.
    """
    longest = budget.longest_header or LONGEST_HEADER
    file = SafetensorsFile(len(data), lambda begin, end: data[begin:end], longest)
    return {name: StoredTensor(file, name, budget) for name in file}, file.metadata


def write_tensors(
    file: BinaryIO,
    shapes: Mapping[str, tuple[int, ...]],
    read: Callable[[str], np.ndarray],
    metadata: Mapping[str, str],
    *,
    is_half: bool = False,
) -> None:
    """Write a safetensors file; the same bytes for equal input (names and metadata are sorted).

    Args:
        file: open for writing.
        shapes: of all tensors, by name.
        read: gives the values of a tensor by its name. One is held at a time, never a second copy of a model.
        metadata: text entries to store under `__metadata__`.
        is_half: whether the tensors are stored as float16 instead of float32.
    """
    name_of_type, code = ("F16", "<f2") if is_half else ("F32", "<f4")
    header: dict[str, Any] = {"__metadata__": {key: metadata[key] for key in sorted(metadata)}} if metadata else {}
    position = 0
    for name in sorted(shapes):
        end = position + np.dtype(code).itemsize * math.prod(shapes[name])
        header[name] = {"dtype": name_of_type, "shape": list(shapes[name]), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % _ALIGNMENT)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in sorted(shapes):
        file.write(np.ascontiguousarray(read(name), code).data)  # a variable would keep it while the next is read


def safetensors_bytes(
    tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str], *, is_half: bool = False
) -> bytes:
    """The bytes that `write_tensors` writes for some arrays."""
    file, shapes = io.BytesIO(), {name: np.shape(array) for name, array in tensors.items()}
    write_tensors(file, shapes, tensors.__getitem__, metadata, is_half=is_half)
    return file.getvalue()


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        header = parse_json(text.decode("utf-8"), allows_duplicates=False)
    except ValueError as error:
        raise BrokenFile("has a damaged header") from error
    if not isinstance(header, dict):
        raise BrokenFile("has a damaged header")
    return header


def _metadata(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise BrokenFile("has metadata that is not text")
    return value


def _checked_entries(header: dict[str, Any], size: int) -> dict[str, dict[str, Any]]:
    """The entries in the order of their values; raises BrokenFile unless these fill `size` bytes without overlap."""
    entries = dict(sorted(header.items(), key=lambda item: _offsets(item[1])))
    position = 0
    for name, entry in entries.items():
        begin, end = _offsets(entry)
        if begin != position or end > size:
            raise BrokenFile(f"declares values for {printable(name)} that overlap, leave a gap or lie outside the file")
        count, code = math.prod(checked_shape(entry.get("shape"))), entry.get("dtype")
        if not isinstance(code, str):
            raise BrokenFile(f"declares no type for {printable(name)}")
        if code in _CODES and count * np.dtype(_CODES[code]).itemsize != end - begin:
            raise BrokenFile(f"declares {count} values for {printable(name)} but holds {end - begin} bytes")
        position = end
    if position != size:
        raise BrokenFile(f"holds {size - position} bytes that belong to no tensor")
    return entries


def _offsets(entry: Any) -> tuple[int, int]:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(offset) is int for offset in offsets):
        raise BrokenFile("has a header entry without offsets")
    if not 0 <= offsets[0] <= offsets[1]:
        raise BrokenFile("has a header entry with invalid offsets")
    return offsets[0], offsets[1]
