"""The builders that a pickle of arrays may name (NumPy's, PyTorch's and a few containers), each replaced by ours.

`allowed_builders` maps the (module, name) that a file writes to our own function. Nothing of NumPy's unpickling code
runs, and PyTorch need not be installed. Arrays are views of the file's bytes. Conversions are charged to a `Budget`, so
that a small file cannot ask for much memory by using the same bytes a thousand times.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from textual_inversion.formats.arrays import Tensor, checked_shape, to_float32, view
from textual_inversion.formats.budget import Budget
from textual_inversion.formats.errors import BrokenFile, RefusedFile, WrongValues, quoted
from textual_inversion.formats.unpickle import Buildable, Builder, refuse_key

BFLOAT16 = np.dtype("uint16")  # the bits of a bfloat16; neither PyTorch nor Paddle has a 16-bit unsigned parameter
_DTYPE_CODE = re.compile(r"[<>|=]?(f2|f4|f8|i1|i2|i4|i8|u1|u2|u4|u8|b1)")


class PickledDtype(Buildable):
    """A `numpy.dtype` in a pickle: its code, then its byte order by BUILD."""

    def __init__(self, code: Any, *_flags: Any):
        if not isinstance(code, str) or not _DTYPE_CODE.fullmatch(code):
            raise WrongValues(f"holds an array of {quoted(code, 40)}; embeddings and weights are numbers")
        self.dtype = np.dtype(code)

    def set_state(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and 2 <= len(state) <= 9 else None
        if order not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
            raise BrokenFile("declares an array type that is not a plain number")
        self.dtype = self.dtype.newbyteorder(order)


class PickledArray(Tensor, Buildable):
    """A `numpy.ndarray` in a pickle, empty until BUILD fills it."""

    def __init__(self, budget: Budget):
        self.budget = budget
        self.array: np.ndarray | None = None
        self.as_float32: np.ndarray | None = None

    def set_state(self, state: Any) -> None:
        _version, shape, dtype, by_columns, data = state
        self.fill(data, dtype, shape, bool(by_columns))

    def fill(self, data: Any, dtype: Any, shape: Any, by_columns: bool) -> None:
        """Take the values as the file declares them; raises EmbeddingFileError if they are not valid."""
        if not isinstance(dtype, PickledDtype):
            raise BrokenFile("declares an array without a type")
        if isinstance(data, str):  # written by Python 2
            data = _encoded(self.budget, data)
        if not isinstance(data, memoryview):
            raise RefusedFile("holds an array of Python objects; embeddings and weights are numbers")
        self.as_float32 = None
        self.array = view(data, dtype.dtype, checked_shape(shape), by_columns=by_columns)

    @property
    def stored_shape(self) -> tuple[int, ...]:
        return () if self.array is None else self.array.shape

    @property
    def stored_type(self) -> str:
        return "" if self.array is None else "bfloat16" if self.array.dtype == BFLOAT16 else self.array.dtype.name

    def to_numpy(self) -> np.ndarray:
        """The array, bfloat16 widened to float32 (Paddle saves its bits as uint16)."""
        if self.array is None:
            raise BrokenFile("holds an array without values")
        if self.as_float32 is None:
            self.as_float32 = to_float32(self.array, self.budget, is_bfloat16=self.array.dtype == BFLOAT16)
        return self.as_float32


class Storage:
    """A flat block of values in a PyTorch file; in the plain form, `data` follows the pickle that names it."""

    def __init__(self, kind: "StorageKind", length: int, budget: Budget, data: memoryview | None = None):
        self.kind, self.length, self.budget, self.data = kind, length, budget, data
        self.byte_order = "<"

    def values(self) -> np.ndarray:
        """All values, [length], as a view of the file; raises BrokenFile."""
        if self.data is None:
            raise BrokenFile("names values that it does not hold")
        return view(self.data, self.kind.dtype.newbyteorder(self.byte_order), (self.length,))


class PickledTensor(Tensor):
    """A `torch.Tensor` in a pickle: a view of a storage."""

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any):
        if not isinstance(storage, Storage):
            raise BrokenFile("holds a tensor without a storage")
        self.storage, self.offset = storage, offset
        self.shape, self.stride = checked_shape(size), checked_shape(stride)
        self.as_float32: np.ndarray | None = None

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Its shape; raises BrokenFile if it exceeds its storage."""
        return self._window().shape

    @property
    def stored_type(self) -> str:
        return "bfloat16" if self.storage.kind.is_bfloat16 else self.storage.kind.dtype.name

    def to_numpy(self) -> np.ndarray:
        """The tensor as float32 (integers and booleans as they are); raises BrokenFile if it exceeds its storage."""
        if self.as_float32 is None:
            self.as_float32 = to_float32(self._window(), self.storage.budget, is_bfloat16=self.storage.kind.is_bfloat16)
        return self.as_float32

    def _window(self) -> np.ndarray:
        values = self.storage.values()
        if type(self.offset) is not int or self.offset < 0 or len(self.stride) != len(self.shape):
            raise BrokenFile("holds a tensor with a damaged offset or stride")
        if math.prod(self.shape) == 0:
            return np.zeros(self.shape, values.dtype)
        last = self.offset + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))
        if last >= len(values) or math.prod(self.shape) > len(values):
            raise BrokenFile("holds a tensor that reaches beyond its values")
        strides = [step * values.itemsize for step in self.stride]
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, strides, writeable=False)


class StorageKind:
    """The type of values that `torch.FloatStorage` and the like stand for."""

    def __init__(self, code: str, *, is_bfloat16: bool = False):
        self.dtype, self.is_bfloat16 = np.dtype(code), is_bfloat16


class PickledModule(Buildable):
    """A `torch.nn.ParameterDict` in a pickle, of which only the table of parameters matters."""

    def __init__(self):
        self.parameters: dict = {}

    def set_state(self, state: Any) -> None:
        parameters = state.get("_parameters") if isinstance(state, dict) else None
        if not isinstance(parameters, dict):
            raise BrokenFile("holds a parameter dictionary without parameters")
        self.parameters = parameters


_STORAGES = {
    "DoubleStorage": StorageKind("f8"),
    "FloatStorage": StorageKind("f4"),
    "HalfStorage": StorageKind("f2"),
    "BFloat16Storage": StorageKind("u2", is_bfloat16=True),
    "LongStorage": StorageKind("i8"),
    "IntStorage": StorageKind("i4"),
    "ShortStorage": StorageKind("i2"),
    "CharStorage": StorageKind("i1"),
    "ByteStorage": StorageKind("u1"),
    "BoolStorage": StorageKind("b1"),
}


def storage_kind(marker: Any) -> StorageKind:
    """The kind that a storage's persistent id names; raises RefusedFile."""
    kind = _STORAGES.get(marker.name.removeprefix("torch.")) if isinstance(marker, Builder) else None
    if kind is None:
        raise RefusedFile("asks for an object from outside the file that is not a tensor storage")
    return kind


def array_of(value: Any) -> np.ndarray | None:
    """The NumPy array behind a pickled value, or None if it is not an array or tensor.

    Paddle writes a tensor inside a list or a deeper dictionary as the pair (name, array).
    """
    value = tensor_of(value)
    return value if value is None or isinstance(value, np.ndarray) else value.to_numpy()


def tensor_of(value: Any) -> Tensor | np.ndarray | None:
    """As `array_of`, but the values are not read yet."""
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
        value = value[1]
    return value if isinstance(value, (Tensor, np.ndarray)) else None


def shape_of(value: Any) -> tuple[int, ...] | None:
    """The shape of the tensor behind a pickled value, of which nothing is read; None where there is none."""
    tensor = tensor_of(value)
    return tensor.stored_shape if isinstance(tensor, Tensor) else None if tensor is None else tensor.shape


def type_of(value: Any) -> str | None:
    """The type that the values of a tensor have in its file, such as "float16"; None where there is no tensor."""
    tensor = tensor_of(value)
    return tensor.stored_type if isinstance(tensor, Tensor) else None if tensor is None else tensor.dtype.name


def allowed_builders(budget: Budget) -> Mapping[tuple[str, str], Builder]:
    """The builder for every (module, name) that a pickle may ask for, bound to this file's budget."""
    functions: dict[str, Any] = {f"torch.{name}": _only_named for name in _STORAGES}
    for core in ("numpy.core", "numpy._core"):
        functions[f"{core}.multiarray._reconstruct"] = lambda *_: PickledArray(budget)
        functions[f"{core}.multiarray.scalar"] = lambda dtype, data: _filled(budget, data, dtype, ())
        functions[f"{core}.numeric._frombuffer"] = lambda data, dtype, shape, order: _filled(
            budget, data, dtype, shape, order
        )
    functions |= {
        "numpy.ndarray": _only_named,
        "numpy.dtype": PickledDtype,
        "_codecs.encode": lambda text, *_: _encoded(budget, text),
        "collections.OrderedDict": _ordered_dict,
        "torch._utils._rebuild_tensor": PickledTensor,
        "torch._utils._rebuild_tensor_v2": lambda storage, offset, size, stride, *_: PickledTensor(
            storage, offset, size, stride
        ),
        "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
        "torch.nn.modules.container.ParameterDict": PickledModule,
        "torch.Size": lambda sizes=(): checked_shape(sizes),
    }
    for builtins in ("builtins", "__builtin__"):
        functions[f"{builtins}.tuple"] = lambda values=(): tuple(values) if isinstance(values, (list, tuple)) else None
        functions[f"{builtins}.set"] = lambda values=(): {refuse_key(value) for value in values}
        functions[f"{builtins}.bytes"] = lambda: memoryview(b"")
        functions[f"{builtins}.bytearray"] = lambda data=b"", *_: _encoded(budget, data)
    return {_split(name): Builder(name, build) for name, build in functions.items()}


def _split(name: str) -> tuple[str, str]:
    module, _, attribute = name.rpartition(".")
    return module, attribute


def _only_named(*_args: Any) -> None:
    raise RefusedFile("calls the name of an array or storage type, which may be named but not called")


def _encoded(budget: Budget, text: Any) -> memoryview:
    """Bytes that older protocols write as text, one character per byte."""
    if isinstance(text, memoryview):
        return text
    if not isinstance(text, str):
        raise BrokenFile("holds bytes in an unknown form")
    budget.spend_values(len(text))
    return memoryview(text.encode("latin-1"))


def _filled(budget: Budget, data: Any, dtype: Any, shape: Any, order: Any = "C") -> PickledArray:
    array = PickledArray(budget)
    array.fill(data, dtype, shape, order == "F")
    return array


def _ordered_dict(pairs: Any = ()) -> dict:
    if not isinstance(pairs, (list, tuple)):
        raise BrokenFile("holds a dictionary in an unknown form")
    return {refuse_key(key): value for key, value in pairs}
