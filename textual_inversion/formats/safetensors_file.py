"""Reading and writing safetensors: 8 bytes of header length, a JSON header, the values.

Format: https://github.com/huggingface/safetensors (README, "Format"). Every size the header declares is held against
the file before an array is made; the arrays are views of the file's bytes.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from textual_inversion.formats.errors import BrokenFile, WrongValues, printable
from textual_inversion.formats.pickled_arrays import Budget, checked_shape, to_float32, view

LONGEST_HEADER = 4 << 20  # bytes; a U-Net of 1700 tensors takes 0.3 MB
_CODES = {
    "F64": "f8", "F32": "f4", "F16": "f2", "BF16": "u2", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1",
    "U64": "u8", "U32": "u4", "U16": "u2", "U8": "u1", "BOOL": "b1",
}  # fmt: skip


def is_safetensors(data: memoryview) -> bool:
    """Does a length that fits the file and a JSON object begin here?"""
    return len(data) >= 10 and int.from_bytes(data[:8], "little") <= len(data) - 8 and data[8] == ord("{")


def read_safetensors(data: memoryview) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors by name (floating point as float32, the rest as it is) and the metadata.

    Raises:
        BrokenFile: a header that is no JSON, or that declares what the file does not hold.
        WrongValues: a type of value that is not known (8-bit floats).
    """
    length = int.from_bytes(data[:8], "little")
    if length > LONGEST_HEADER:
        raise BrokenFile(f"has a header of {length} bytes; no embedding or model needs more than {LONGEST_HEADER}")
    header, values = _parsed(bytes(data[8 : 8 + length])), data[8 + length :]
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise BrokenFile("has metadata that is not text")
    budget = Budget(len(data))
    tensors, position = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: _offsets(item[1])):
        begin, end = _offsets(entry)
        if begin != position or end > len(values):
            raise BrokenFile(f"declares values for {printable(name)} that overlap, leave a gap or lie outside the file")
        tensors[name] = _tensor(name, entry, values[begin:end], budget)
        position = end
    if position != len(values):
        raise BrokenFile(f"holds {len(values) - position} bytes that belong to no tensor")
    return tensors, metadata


def safetensors_bytes(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file of float32 tensors, the same bytes for equal input (names and metadata are sorted)."""
    header: dict[str, Any] = {}
    if metadata:
        header["__metadata__"] = {key: metadata[key] for key in sorted(metadata)}
    position, blocks = 0, []
    for name in sorted(tensors):
        block = np.ascontiguousarray(tensors[name], "<f4").tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": list(np.shape(tensors[name])),
            "data_offsets": [position, position + len(block)],
        }
        position += len(block)
        blocks.append(block)
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)  # the values begin on a multiple of 8
    return len(text).to_bytes(8, "little") + text + b"".join(blocks)


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:
        raise BrokenFile("has a damaged header") from error
    if not isinstance(header, dict):
        raise BrokenFile("has a damaged header")
    return header


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name stands twice")
    return table


def _offsets(entry: Any) -> tuple[int, int]:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(offset) is int for offset in offsets):
        raise BrokenFile("has a header entry without offsets")
    if not 0 <= offsets[0] <= offsets[1]:
        raise BrokenFile("has a header entry with offsets that run backwards")
    return offsets[0], offsets[1]


def _tensor(name: str, entry: dict[str, Any], data: memoryview, budget: Budget) -> np.ndarray:
    code = _CODES.get(entry["dtype"]) if isinstance(entry.get("dtype"), str) else None
    if code is None:
        raise WrongValues(f"holds {printable(name)} as {printable(entry.get('dtype'), 40)}; float32 or float16 is read")
    shape = checked_shape(entry.get("shape"))
    if math.prod(shape) == 0 and len(data) == 0:
        return np.zeros(shape, np.float32)
    array = view(data, np.dtype("<" + code) if code[1] != "1" else np.dtype(code), shape)
    return to_float32(array, budget, is_bfloat16=entry["dtype"] == "BF16")
