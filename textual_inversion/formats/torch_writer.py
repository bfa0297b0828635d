"""Write what `torch.load(weights_only=True)` reads, without PyTorch: dictionaries of tensors, text, numbers and None.

The archive is the one that `torch_file` reads: data.pkl, byteorder, version, and the values of each tensor in an entry
of their own, uncompressed, at a multiple of 64 bytes as PyTorch aligns them. Equal input gives equal bytes.
"""

import io
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

_FOLDER = "archive"
_ALIGNMENT = 64
_STORAGES = {"float32": ("FloatStorage", "<f4"), "float16": ("HalfStorage", "<f2")}
_BEGINNING = (1980, 1, 1, 0, 0, 0)  # of time, in a zip archive


def torch_bytes(content: Mapping[str, Any]) -> bytes:
    """The bytes of a file from which `torch.load` gives a dictionary.

    Args:
        content: text -> float32 or float16 arrays, text, whole numbers, None, or another such dictionary.

    Raises:
        TypeError: it holds something else.
    """
    storages: list[bytes] = []
    pickle = b"\x80\x02" + _item(content, storages) + b"."
    entries = {"data.pkl": pickle, "byteorder": b"little", "version": b"3\n"}
    entries |= {f"data/{index}": values for index, values in enumerate(storages)}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries.items():
            entry = zipfile.ZipInfo(f"{_FOLDER}/{name}", _BEGINNING)
            entry.create_system = 0  # else it says on which system it was written
            entry.extra = _padding(file.tell() + 30 + len(entry.filename))
            archive.writestr(entry, data)
    return file.getvalue()


def _padding(position: int) -> bytes:
    """An extra field, as PyTorch's "FB", that moves what follows to a multiple of the alignment."""
    size = -(position + 4) % _ALIGNMENT
    return b"FB" + struct.pack("<H", size) + b"Z" * size


def _item(value: Any, storages: list[bytes]) -> bytes:
    if isinstance(value, Mapping):
        return b"}(" + b"".join(_text(name) + _item(one, storages) for name, one in value.items()) + b"u"
    if isinstance(value, np.ndarray):
        return _tensor(value, storages)
    if isinstance(value, str):
        return _text(value)
    if value is None:
        return b"N"
    if type(value) is int:
        return _number(value)
    raise TypeError(f"{type(value).__name__} is not written")


def _tensor(array: np.ndarray, storages: list[bytes]) -> bytes:
    """A call of torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)."""
    kind, code = _STORAGES[array.dtype.name]
    key = str(len(storages))
    storages.append(np.ascontiguousarray(array, code).tobytes())
    strides = [int(np.prod(array.shape[axis + 1 :])) for axis in range(array.ndim)]
    storage = b"(" + _text("storage") + f"ctorch\n{kind}\n".encode() + _text(key) + _text("cpu")
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + _number(array.size)
        + b"tQ"
        + _number(0)
        + _sizes(array.shape)
        + _sizes(strides)
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )


def _sizes(sizes: Any) -> bytes:
    return b"(" + b"".join(_number(size) for size in sizes) + b"t"


def _number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value) if -(2**31) <= value < 2**31 else _long(value)


def _long(value: int) -> bytes:
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def _text(text: str) -> bytes:
    encoded = text.encode("utf-8")
    return b"X" + struct.pack("<I", len(encoded)) + encoded
