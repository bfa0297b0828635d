"""Bytes of a file as arrays, within bounds: shapes, views that copy nothing, conversion to float32 under a budget."""

import math
from typing import Any

import numpy as np

from textual_inversion.formats.budget import Budget
from textual_inversion.formats.errors import BrokenFile

MOST_DIMENSIONS = 32


class Tensor:
    """A tensor in a file, whose values are read when they are asked for."""

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Its shape as the file declares it; () before there is one."""
        raise NotImplementedError

    @property
    def stored_type(self) -> str:
        """The type of its values in the file, such as "float16"; "" before there is one."""
        raise NotImplementedError

    def to_numpy(self) -> np.ndarray:
        """float16, bfloat16 and float64 as float32; other types as they are; raises EmbeddingFileError."""
        raise NotImplementedError


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
        budget.spend_values(4 * array.size)
        return widened(array)
    if array.dtype.kind == "f" and array.dtype != np.float32:
        budget.spend_values(4 * array.size)
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, which readers refuse
            return array.astype(np.float32)
    return array
