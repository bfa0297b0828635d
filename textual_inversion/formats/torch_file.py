"""Reading what `torch.save` writes, the zip archive and the older plain form, without PyTorch.

    archive    NAME/data.pkl with the objects, NAME/data/KEY with the values of one storage, NAME/byteorder
    plain      magic number, version, system, objects, storage keys: five pickles; then length and values per storage

The zip directory is read by hand: entries must be stored uncompressed (PyTorch never compresses), so that no entry can
unfold, and nothing is ever unpacked to the disk, whatever names the entries bear.
"""

import struct
import zlib
from typing import Any

from textual_inversion.formats.errors import BrokenFile, NotAnEmbedding, RefusedFile, printable
from textual_inversion.formats.pickled_arrays import Budget, Storage, allowed_builders, storage_kind
from textual_inversion.formats.unpickle import Builder, interpret

PLAIN_MAGIC = 0x1950A86A20F9469CFC6C
MOST_ENTRIES = 20_000
_END = struct.Struct("<4s4H2LH")  # end of the central directory
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")  # one file in the central directory
_LOCAL = struct.Struct("<4s5H3L2H")
_ENCRYPTED = 1


def is_archive(data: memoryview) -> bool:
    """Does a zip archive begin here?"""
    return bytes(data[:4]) in (b"PK\x03\x04", b"PK\x05\x06")


def read_archive(data: memoryview) -> Any:
    """The object in a `torch.save` archive; arrays are `PickledTensor`. Raises EmbeddingFileError."""
    entries = Archive(data)
    pickles = [name for name in entries.names if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        raise NotAnEmbedding("is a zip archive, but not one of PyTorch's (no data.pkl)")
    folder = pickles[0].removesuffix("data.pkl")
    budget = Budget(len(data))
    order = bytes(entries.read(folder + "byteorder")) if folder + "byteorder" in entries.names else b"little"
    storages: dict[str, Storage] = {}

    def load_persistent(identity: Any) -> Storage:
        kind, key, length = _storage_identity(identity)
        if key not in storages:
            storages[key] = Storage(kind, length, budget, entries.read(f"{folder}data/{key}"))
            storages[key].byte_order = ">" if order.strip() == b"big" else "<"
        if storages[key].kind is not kind:
            raise BrokenFile("uses the same values as two types")
        return storages[key]

    value, _ = interpret(entries.read(pickles[0]), allowed_builders(budget), load_persistent)
    return value


def read_plain(data: memoryview) -> Any:
    """The object in a file of `torch.save` before version 1.6. Raises EmbeddingFileError."""
    budget = Budget(len(data))
    storages: dict[str, Storage] = {}

    def load_persistent(identity: Any) -> Storage | Builder:
        if isinstance(identity, tuple) and identity[:1] == ("module",) and isinstance(identity[1], Builder):
            return identity[1]  # a class with its source text beside it, for a warning of PyTorch's
        kind, key, length = _storage_identity(identity)
        if identity[5:] not in ((), (None,)):
            raise RefusedFile("holds a view of a storage, which PyTorch has not written since 0.4")
        return storages.setdefault(key, Storage(kind, length, budget))

    position = 0
    for _header in ("magic number", "version", "system"):
        system, position = interpret(data, {}, start=position)
    value, position = interpret(data, allowed_builders(budget), load_persistent, position)
    keys, position = interpret(data, {}, start=position)
    _attach_values(data, position, keys, storages)
    if isinstance(system, dict) and system.get("little_endian") is False:
        for storage in storages.values():
            storage.byte_order = ">"
    return value


def _attach_values(data: memoryview, position: int, keys: Any, storages: dict[str, Storage]) -> None:
    """Give each storage its stretch of the file: 8 bytes of length, then the values, in the order of `keys`."""
    if not isinstance(keys, list):
        raise BrokenFile("lacks the list of its storages")
    for key in keys:
        storage = storages.get(key) if isinstance(key, str) else None
        if storage is None or len(data) - position < 8:
            raise BrokenFile("is cut short before the values of its tensors")
        end = position + 8 + storage.length * storage.kind.dtype.itemsize
        if int.from_bytes(data[position : position + 8], "little") != storage.length or end > len(data):
            raise BrokenFile(f"declares {storage.length} values where {len(data) - position - 8} bytes are left")
        storage.data, position = data[position + 8 : end], end


def _storage_identity(identity: Any) -> tuple[Any, str, int]:
    """(kind, key, number of values) of a storage's persistent id; raises RefusedFile for any other."""
    if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage":
        raise RefusedFile("asks for an object from outside the file that is no tensor storage")
    _, marker, key, _device, length = identity[:5]
    if not isinstance(key, str) or type(length) is not int or not 0 <= length < 2**48:
        raise BrokenFile("names a storage without key or length")
    return storage_kind(marker), key, length


class Archive:
    """The entries of a zip archive as views of its bytes."""

    def __init__(self, data: memoryview):
        self.data = data
        self.names: dict[str, tuple[int, int, int]] = {}  # name -> offset of its local header, size, check sum
        try:
            self._read_directory(*self._directory())
        except (struct.error, UnicodeDecodeError) as error:
            raise BrokenFile("is a damaged zip archive") from error

    def read(self, name: str) -> memoryview:
        """The bytes of an entry, its check sum proved; raises BrokenFile."""
        if name not in self.names:
            raise BrokenFile(f"lacks its part {printable(name)}")
        offset, size, check_sum = self.names[name]
        if offset + _LOCAL.size > len(self.data):
            raise BrokenFile(f"is cut short at its part {printable(name)}")
        signature, *_, name_length, extra_length = _LOCAL.unpack_from(self.data, offset)
        begin = offset + _LOCAL.size + name_length + extra_length
        if signature != b"PK\x03\x04" or begin + size > len(self.data):
            raise BrokenFile(f"is damaged or cut short at its part {printable(name)}")
        content = self.data[begin : begin + size]
        if zlib.crc32(content) != check_sum:
            raise BrokenFile(f"is damaged: the check sum of its part {printable(name)} does not match")
        return content

    def _directory(self) -> tuple[int, int]:
        """Offset and size of the central directory."""
        tail_start = max(0, len(self.data) - _END.size - 0xFFFF)
        found = bytes(self.data[tail_start:]).rfind(b"PK\x05\x06")
        if found < 0:
            raise BrokenFile("is a zip archive without its end: cut short")
        end = tail_start + found
        size, offset = _END.unpack_from(self.data, end)[5:7]
        if 0xFFFFFFFF in (size, offset) and end >= _LOCATOR64.size:
            signature, _, end64, _ = _LOCATOR64.unpack_from(self.data, end - _LOCATOR64.size)
            if signature != b"PK\x06\x07" or end64 > len(self.data):
                raise BrokenFile("is a damaged zip archive")
            size, offset = _END64.unpack_from(self.data, end64)[8:10]
        if offset + size > end:
            raise BrokenFile("is a damaged zip archive")
        return offset, size

    def _read_directory(self, position: int, size: int) -> None:
        end = position + size
        while position < end:
            if len(self.names) >= MOST_ENTRIES:
                raise NotAnEmbedding(f"is a zip archive of more than {MOST_ENTRIES} parts")
            fields = _ENTRY.unpack_from(self.data, position)
            name_length, extra_length, comment_length = fields[10:13]
            start = position + _ENTRY.size
            name = bytes(self.data[start : start + name_length]).decode("utf-8")
            extra = self.data[start + name_length : start + name_length + extra_length]
            self._add(name, fields, extra)
            position = start + name_length + extra_length + comment_length

    def _add(self, name: str, fields: tuple, extra: memoryview) -> None:
        signature, _, _, flags, method = fields[:5]
        check_sum, packed, size = fields[7:10]
        if signature != b"PK\x01\x02" or name in self.names:
            raise BrokenFile("is a damaged zip archive")
        if method != 0 or flags & _ENCRYPTED:
            raise RefusedFile(f"holds the compressed or encrypted part {printable(name)}, which PyTorch never writes")
        size, packed, offset = _wide_fields(extra, size, packed, fields[16])
        if size != packed:
            raise BrokenFile("is a damaged zip archive")
        self.names[name] = (offset, size, check_sum)


def _wide_fields(extra: memoryview, *narrow: int) -> list[int]:
    """Sizes and offset of an entry; those of 0xFFFFFFFF stand as 64 bits in its extra field 1."""
    wide: list[int] = []
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        if kind == 1:
            wide = [
                value for (value,) in struct.iter_unpack("<Q", extra[position + 4 : position + 4 + length // 8 * 8])
            ]
        position += 4 + length
    remaining = iter(wide)
    return [next(remaining, value) if value == 0xFFFFFFFF else value for value in narrow]
