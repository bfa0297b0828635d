"""Bytes of a file as arrays, within bounds: shapes, views that copy nothing, conversion to float32 under a budget."""

import math
from typing import Any

import numpy as np

from textual_inversion.formats.errors import BrokenFile

MOST_DIMENSIONS = 32


class Budget:
    """Bytes that a file may make us allocate: four times its own size and a mebibyte."""

    def __init__(self, file_size: int):
        self.remaining = 4 * file_size + (1 << 20)

    def spend(self, size: int) -> None:
        """Take `size` bytes; raises BrokenFile if fewer remain."""
        self.remaining -= size
        if self.remaining < 0:
            raise BrokenFile("declares far more values than it holds")


def checked_shape(shape: Any) -> tuple[int, ...]:
    """`shape` as a tuple of at most MOST_DIMENSIONS sizes; raises BrokenFile."""
    if not isinstance(shape, (tuple, list)) or len(shape) > MOST_DIMENSIONS:
        raise BrokenFile("declares a shape that is not a tuple of a few sizes")
    if not all(type(size) is int and 0 <= size < 2**48 for size in shape):
        raise BrokenFile("declares a shape with an invalid size")
    return tuple(shape)


def view(data: memoryview, dtype: np.dtype, shape: tuple[int, ...], *, by_columns: bool = False) -> np.ndarray:
    """The bytes as an array, without a copy; raises BrokenFile unless there are exactly as many as declared."""
    declared = math.prod(shape) * dtype.itemsize
    if declared != len(data):
        raise BrokenFile(f"declares an array of {declared} bytes but holds {len(data)}")
    array = np.frombuffer(data, dtype) if declared else np.empty(0, dtype)
    return array.reshape(shape, order="F" if by_columns else "C")


def widened(bits: np.ndarray) -> np.ndarray:
    """bfloat16, given as uint16, as float32: a bfloat16 is the upper half of a float32."""
    wide = bits.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


def to_float32(array: np.ndarray, budget: Budget, *, is_bfloat16: bool = False) -> np.ndarray:
    """float16, bfloat16 (as uint16) and float64 as float32; float32, integers and booleans as they are."""
    if is_bfloat16:
        budget.spend(4 * array.size)
        return widened(array)
    if array.dtype.kind == "f" and array.dtype != np.float32:
        budget.spend(4 * array.size)
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, which readers refuse
            return array.astype(np.float32)
    return array
