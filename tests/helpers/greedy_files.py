"""Embedding files that ask for far more than they hold, and one that holds far more than it asks for."""

import pickle
import struct
import zlib
from pathlib import Path

import numpy as np

from helpers.strangers import archive, array, huge, tensor, text, zip_of

NAMES = 4000
SIDE = 80_000  # values of the one tensor that all names share


def _memo(index: int) -> bytes:
    return b"j" + struct.pack("<I", index)


def _remembered(value: bytes, index: int = 7) -> bytes:
    """Opcodes that build a value once, keep it in the memo, and leave nothing on the stack."""
    return value + b"r" + struct.pack("<I", index) + b"0"


def _table(names: list[str], value: bytes) -> bytes:
    return b"}(" + b"".join(text(name) + value for name in names) + b"u"


def _names(count: int = NAMES, end: str = ">") -> list[str]:
    return [f"<{index}{end}" for index in range(count)]


def _shape(*sizes: int) -> bytes:
    return b"(" + b"".join(huge(size) for size in sizes) + b"t"


def greedy_files() -> dict[str, bytes]:
    """Small files of which a reader without a budget makes gigabytes, or for which it works for minutes."""
    values = bytes(4 * SIDE)
    one_array = _remembered(array(_shape(SIDE), values))
    one_tensor = _remembered(tensor(_shape(SIDE), _shape(1), length=SIDE))

    def in_archive(pickled: bytes) -> bytes:
        return zip_of(("a/data.pkl", pickled), ("a/byteorder", b"little"), ("a/data/0", values))

    many = _table(_names(), _memo(7))
    half = _remembered(array(_shape(SIDE), values[: 2 * SIDE], "f2"))
    outputs = _table([*_names(1), "emp_params_out"], _memo(7))
    laughs = b"]q\x000" + b"".join(b"](h%ch%ceq%c0" % (i, i, i + 1) for i in range(60))
    long_names = [f"{'x' * 12_000}_{index}" for index in range(1, NAMES)]
    return {
        "one array under many names": b"\x80\x02" + one_array + many + b".",
        "one array of half precision under many names": b"\x80\x02" + half + many + b".",
        "one tensor under many names": in_archive(b"\x80\x02" + one_tensor + many + b"."),
        "one tensor under many names, twice": in_archive(
            b"\x80\x02" + one_tensor + _remembered(many, 8) + b"}" + text("clip_l") + _memo(8) + b"s" + text("clip_g")
            + _memo(8) + b"s."
        ),
        "one tensor under very many parameters": in_archive(
            b"\x80\x02" + one_tensor + b"}" + text("string_to_param") + _table(_names(15_000), _memo(7)) + b"s."
        ),
        "zeros beside output vectors": in_archive(b"\x80\x02" + one_tensor + outputs[:-1] + many[2:] + b"."),
        "names without end": b"\x80\x02" + _remembered(array(_shape(4), bytes(16)))
        + _table(["x" * 12_000, *long_names], _memo(7)) + b".",
        "a type that laughs a billion times": b"\x80\x02" + laughs + b"cnumpy\ndtype\nh\x3c\x85R.",
        "a name of a type that laughs": b"\x80\x02" + laughs + b"}" + text("x") + b"h\x3cs.",
        "steps in every one of five pickles": pickle.dumps(0x1950A86A20F9469CFC6C, 2)
        + (b"\x80\x02" + b"]0" * 120_000 + b"N.") * 4,
        "very many parts": archive(b"\x80\x02}.", *((f"a/data/{index}", b"") for index in range(1, 20_001))),
        "sets": b"\x80\x04" + b"\x8f" * 1_000_000,
        "remembered": b"\x80\x04" + b"}\x94" * 500_000,
        "nested header": struct.pack("<Q", 1_000_000) + b'{"a":[' + b"[]," * 333_331 + b"  ",
    }  # fmt: skip


def view_of_a_table(path: Path, rows: np.ndarray, token: str = "<cat>", *, plain: bool = False, table: int = 49_411):
    """What diffusers' script saves on a CPU: the last rows of a text encoder's table, with the whole table behind them.

    The file is sparse.

    Args:
        rows: float32 [N, D].
        plain: as PyTorch before version 1.6 writes it.
        table: rows of the table.
    """
    count, width = rows.shape
    length = table * width
    size = _shape(count, width), _shape(width, 1)
    pickled = b"\x80\x02}" + text(token) + tensor(*size, length=length, offset=length - rows.size) + b"s."
    if plain:
        pickled = pickled.replace(text("cpu") + huge(length) + b"t", text("cpu") + huge(length) + b"Nt")
        head = b"".join(pickle.dumps(one, 2) for one in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
        head += pickled + pickle.dumps(["0"], 2) + struct.pack("<q", length)
        with open(path, "wb") as file:
            file.write(head)
            _write_table(file, rows, 4 * length)
        return
    entries = [("a/data.pkl", pickled), ("a/byteorder", b"little"), ("a/data/0", None)]
    with open(path, "wb") as file:
        directory = [_write_entry(file, name, content, rows, 4 * length) for name, content in entries]
        begin = file.tell()
        file.write(b"".join(directory))
        sizes = (len(entries), len(entries), file.tell() - begin, begin)
        file.write(struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, *sizes, 0))


def _write_table(file, rows: np.ndarray, size: int) -> None:
    file.seek(size - rows.nbytes, 1)
    file.write(rows.astype("<f4").tobytes())


def _write_entry(file, name: str, content: bytes | None, rows: np.ndarray, size: int) -> bytes:
    """Write one stored part of a zip archive; returns its line of the directory."""
    checksum = zlib.crc32(content) if content is not None else _checksum(rows, size)
    size, begin = len(content) if content is not None else size, file.tell()
    facts = (0, 0, 0, 0, checksum, size, size, len(name))
    file.write(struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, *facts, 0) + name.encode())
    if content is None:
        _write_table(file, rows, size)
    else:
        file.write(content)
    return struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, *facts, 0, 0, 0, 0, 0, begin) + name.encode()


def _checksum(rows: np.ndarray, size: int) -> int:
    checksum, zeros, left = 0, bytes(1 << 20), size - rows.nbytes
    while left:
        checksum = zlib.crc32(zeros[:left], checksum)
        left -= min(left, len(zeros))
    return zlib.crc32(rows.astype("<f4").tobytes(), checksum)
