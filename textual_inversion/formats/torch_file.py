"""Read what `torch.save` writes, the zip archive and the older plain form, without PyTorch.

    archive    NAME/data.pkl with the objects, NAME/data/KEY with the values of one storage, NAME/byteorder
    plain      magic number, version, system, objects, storage keys: five pickles; then length and values per storage

`zipfile` reads the directory of an archive, within our own bounds. The entries themselves are views of the file, which
`zipfile` would copy. They must be uncompressed (PyTorch never compresses) and must not overlap, so none can expand.
Nothing is ever unpacked to the disk, so the names of the entries do no harm.
"""

import codecs
import struct
import zipfile
import zlib
from typing import Any

from textual_inversion.formats.budget import MOST_PARTS, Budget
from textual_inversion.formats.errors import AsksTooMuch, BrokenFile, NotAnEmbedding, RefusedFile, printable
from textual_inversion.formats.pickled_arrays import Storage, allowed_builders, storage_kind
from textual_inversion.formats.unpickle import Builder, interpret

PLAIN_MAGIC = 0x1950A86A20F9469CFC6C
# PyTorch's entries take 60 to 100 bytes each. `zipfile` makes an object of a kilobyte for each, without any limit.
MOST_DIRECTORY_BYTES = 100 * MOST_PARTS
_LOCAL = struct.Struct("<4s5H3L2H")  # the header that precedes the bytes of an entry
_ENCRYPTED = 1
codecs.lookup("cp437")  # the encoding of names; imported here, so that reading a stranger's file imports nothing


def is_archive(data: memoryview) -> bool:
    """Whether a zip archive begins here."""
    return bytes(data[:4]) in (b"PK\x03\x04", b"PK\x05\x06")


def read_archive(data: memoryview, budget: Budget) -> Any:
    """The object in an archive of `torch.save`, tensors as `PickledTensor`; raises EmbeddingFileError."""
    entries = Archive(data, budget)
    pickles = [name for name in entries.names if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        raise NotAnEmbedding("is a zip archive, but not PyTorch's (it lacks data.pkl)")
    folder = pickles[0].removesuffix("data.pkl")
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

    value, _ = interpret(entries.read(pickles[0]), allowed_builders(budget), load_persistent, budget=budget)
    return value


def read_plain(data: memoryview, budget: Budget) -> Any:
    """The object in a file of `torch.save` before version 1.6; raises EmbeddingFileError."""
    storages: dict[str, Storage] = {}

    def load_persistent(identity: Any) -> Storage | Builder:
        if isinstance(identity, tuple) and identity[:1] == ("module",) and isinstance(identity[1], Builder):
            return identity[1]  # a class with its source text, which PyTorch needs for a warning
        kind, key, length = _storage_identity(identity)
        if identity[5:] not in ((), (None,)):
            raise RefusedFile("holds a view of a storage, which PyTorch has not written since 0.4")
        return storages.setdefault(key, Storage(kind, length, budget))

    position = 0
    for _header in ("magic number", "version", "system"):
        system, position = interpret(data, {}, start=position, budget=budget)
    value, position = interpret(data, allowed_builders(budget), load_persistent, position, budget)
    keys, position = interpret(data, {}, start=position, budget=budget)
    _attach_values(data, position, keys, storages)
    if isinstance(system, dict) and system.get("little_endian") is False:
        for storage in storages.values():
            storage.byte_order = ">"
    return value


def _attach_values(data: memoryview, position: int, keys: Any, storages: dict[str, Storage]) -> None:
    """Give each storage its part of the file: 8 bytes of length, then the values, in the order of `keys`."""
    if not isinstance(keys, list):
        raise BrokenFile("lacks the list of its storages")
    for key in keys:
        storage = storages.get(key) if isinstance(key, str) else None
        if storage is None or len(data) - position < 8:
            raise BrokenFile("is cut short before the values of its tensors")
        end = position + 8 + storage.length * storage.kind.dtype.itemsize
        if int.from_bytes(data[position : position + 8], "little") != storage.length or end > len(data):
            raise BrokenFile(f"declares {storage.length} values where {len(data) - position - 8} bytes remain")
        storage.data, position = data[position + 8 : end], end


def _storage_identity(identity: Any) -> tuple[Any, str, int]:
    """(kind, key, number of values) of a storage's persistent id; raises RefusedFile for any other."""
    if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage":
        raise RefusedFile("asks for an object from outside the file that is not a tensor storage")
    _, marker, key, _device, length = identity[:5]
    if not isinstance(key, str) or type(length) is not int or not 0 <= length < 2**48:
        raise BrokenFile("names a storage without key or length")
    return storage_kind(marker), key, length


class Archive:
    """The entries of a zip archive as views of its bytes.

    Attributes:
        names: the names of all entries.

    Raises:
        AsksTooMuch: there are more parts than the budget allows.
        RefusedFile: one is compressed or encrypted.
        BrokenFile: the directory is damaged, names an entry twice, or declares more than the file holds.
    """

    def __init__(self, data: memoryview, budget: Budget):
        self._data, self._checksums_up_to = data, budget.checksums_up_to
        entries = _directory(data)
        budget.spend_parts(len(entries))
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & _ENCRYPTED:
                shown = printable(entry.filename)
                raise RefusedFile(f"holds the compressed or encrypted part {shown}, which PyTorch never writes")
        self._entries = {entry.filename: entry for entry in entries}
        is_doubled = len(self._entries) != len(entries)
        if is_doubled or any(entry.file_size != entry.compress_size for entry in entries):
            raise BrokenFile("is a damaged zip archive")
        # Entries over the same bytes would let a small file ask for any number of checksums.
        if sum(entry.file_size for entry in entries) > len(data):
            raise BrokenFile("is a zip archive whose parts overlap or reach beyond its end")
        self.names = list(self._entries)

    def read(self, name: str) -> memoryview:
        """The bytes of an entry, after verifying its checksum; raises BrokenFile.

        The checksum of a part beyond `budget.checksums_up_to` is not verified: of the table of a whole text encoder,
        which PyTorch stores with a view of three rows, only the rows are read.
        """
        if name not in self._entries:
            raise BrokenFile(f"lacks its part {printable(name)}")
        offset, size = self._entries[name].header_offset, self._entries[name].file_size
        if not 0 <= offset <= len(self._data) - _LOCAL.size:
            raise BrokenFile(f"is cut short at its part {printable(name)}")
        signature, *_, name_length, extra_length = _LOCAL.unpack_from(self._data, offset)
        begin = offset + _LOCAL.size + name_length + extra_length
        if signature != b"PK\x03\x04" or begin + size > len(self._data):
            raise BrokenFile(f"is damaged or cut short at its part {printable(name)}")
        content = self._data[begin : begin + size]
        is_read = self._checksums_up_to is None or size <= self._checksums_up_to
        if is_read and zlib.crc32(content) != self._entries[name].CRC:
            raise BrokenFile(f"is damaged: the checksum of its part {printable(name)} does not match")
        return content


def _directory(data: memoryview) -> list[zipfile.ZipInfo]:
    """The entries that a zip archive lists; raises BrokenFile, or NotAnEmbedding for too long a list."""
    try:
        with zipfile.ZipFile(_BoundedFile(data)) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, struct.error) as error:
        raise BrokenFile("is a zip archive that is damaged or cut short") from error


class _BoundedFile:
    """Bytes in memory as a file from which `zipfile` reads the directory; too long a directory is refused."""

    def __init__(self, data: memoryview):
        self._data, self._position = data, 0

    def seek(self, offset: int, whence: int = 0) -> int:
        position = offset + (0, self._position, len(self._data))[whence]
        if position < 0:
            raise OSError("before the beginning of the file")
        self._position = position
        return position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        end = len(self._data) if size < 0 else min(len(self._data), self._position + size)
        if end - self._position > MOST_DIRECTORY_BYTES:
            raise AsksTooMuch(
                f"asks for too much: it is a zip archive with a directory of more than {MOST_DIRECTORY_BYTES} bytes"
            )
        content = bytes(self._data[self._position : end])
        self._position = max(end, self._position)
        return content
