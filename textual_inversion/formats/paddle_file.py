"""Read the pickles of `paddle.save`, and write one, without Paddle.

A state dictionary is saved as NumPy arrays by name, with a table of Paddle's own names under NAME_TABLE. Protocols 2
and 3 split arrays of more than 1 GiB into slices, described under SLICE_TABLE.
"""

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from textual_inversion.formats.arrays import checked_shape
from textual_inversion.formats.budget import Budget
from textual_inversion.formats.errors import BrokenFile
from textual_inversion.formats.pickled_arrays import allowed_builders, array_of
from textual_inversion.formats.unpickle import interpret

NAME_TABLE = "StructuredToParameterName@@"
SLICE_TABLE = "UnpackBigParamInfor@@"


def read_pickle(data: memoryview, budget: Budget) -> Any:
    """The object in a pickle of arrays and containers, with Paddle's tables resolved; raises EmbeddingFileError."""
    value, _ = interpret(data, allowed_builders(budget), budget=budget)
    if isinstance(value, dict):
        value.pop(NAME_TABLE, None)
        if SLICE_TABLE in value:
            _join_slices(value, value.pop(SLICE_TABLE), budget)
    return value


def _join_slices(value: dict, table: Any, budget: Budget) -> None:
    if not isinstance(table, dict):
        raise BrokenFile("has a damaged table of slices")
    for name, entry in table.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("slices"), list):
            raise BrokenFile("has a damaged table of slices")
        slices = [array_of(value.pop(part, None)) for part in entry["slices"] if isinstance(part, str)]
        if not slices or any(part is None for part in slices):
            raise BrokenFile("lacks a slice of a large array")
        budget.spend_values(sum(part.nbytes for part in slices))
        value[name] = np.concatenate(slices).reshape(checked_shape(entry.get("OriginShape")))


def pdparams_bytes(arrays: Mapping[str, np.ndarray | Mapping[str, np.ndarray]]) -> bytes:
    """A file from which `paddle.load` returns `arrays` as float32 tensors; the same bytes for equal input.

    The opcodes are written one by one, because the output of `pickle.dumps` depends on NumPy's version, and on which
    objects happen to be shared. `numpy.core` is the name of the array builder that every NumPy since 1.0 can import.
    """
    return b"\x80\x04" + _dictionary(arrays, with_table=True) + b"."


def _dictionary(arrays: Mapping[str, Any], *, with_table: bool) -> bytes:
    items = b""
    for name, value in arrays.items():
        items += _text(name) + (_dictionary(value, with_table=False) if isinstance(value, Mapping) else _array(value))
    if with_table and not any(isinstance(value, Mapping) for value in arrays.values()):
        # With the table, paddle.load converts the arrays that it names; without it, all arrays at any depth.
        items += _text(NAME_TABLE) + b"}(" + b"".join(_text(name) * 2 for name in arrays) + b"u"
    return b"}(" + items + b"u"


def _text(text: str) -> bytes:
    encoded = text.encode("utf-8")
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def _array(array: np.ndarray) -> bytes:
    values = np.ascontiguousarray(array, "<f4").tobytes()
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    shape = b"(" + b"".join(b"J" + struct.pack("<i", size) for size in array.shape) + b"t"
    dtype = (
        b"cnumpy\ndtype\n"
        + _text("f4")
        + b"\x89\x88\x87R(K\x03"
        + _text("<")
        + b"NNN"
        + b"J\xff\xff\xff\xff" * 2
        + b"K\x00tb"
    )
    return empty + b"(K\x01" + shape + dtype + b"\x89B" + struct.pack("<I", len(values)) + values + b"tb"
