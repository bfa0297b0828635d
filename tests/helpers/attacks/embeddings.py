"""Embedding files that cost more than they hold, in every layout and container."""

import itertools
import json
import pickle
import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from helpers.attacks.attack import EITHER, Attack, Kit
from helpers.greedy_files import greedy_files
from helpers.strangers import archive, array, attacks_by_structure, huge, tensor, text, zip_of

WIDE, MANY = 60_000, 3_000


def attacks(kit: Kit, chance: random.Random) -> Iterator[Attack]:
    """One for each file and, for some, one for each command that reads it."""
    files = every_file()
    for name, data in files.items():
        yield Attack(3, name, _infer(kit, data), EITHER if name.startswith("shared: few") else (2,))
    for name in sorted(files)[::9]:
        yield Attack(3, f"{name} (initial vectors)", _train(kit, files[name]), EITHER)
        yield Attack(3, f"{name} (weights)", _weights(kit, files[name]))


def every_file() -> dict[str, bytes]:
    """The files by what they do."""
    files = {f"greedy: {name}": data for name, data in greedy_files().items()}
    files |= {f"crafted: {name}": data for name, (data, _) in attacks_by_structure().items()}
    files |= {f"shared: {name}": data for name, data in _shared()}
    files |= {f"header: {name}": data for name, data in _headers()}
    files |= {f"archive: {name}": data for name, data in _archives()}
    return files | {f"pickle: {name}": data for name, data in _pickles()}


def _infer(kit: Kit, data: bytes):
    def build(place: Path) -> list[str]:
        (place / "x.pt").write_bytes(data)
        return kit.infer(place, embeds=place / "x.pt")

    return build


def _train(kit: Kit, data: bytes):
    def build(place: Path) -> list[str]:
        (place / "x.bin").write_bytes(data)
        return kit.train(place, initializer_embeds=place / "x.bin", initializer_token=None)

    return build


def _weights(kit: Kit, data: bytes):
    """The same as the U-Net's weights."""

    def build(place: Path) -> list[str]:
        base = kit.copy("base", place / "base")
        for path in (base / "unet").glob("*.safetensors"):
            path.unlink()
        (base / "unet/model_state.pdparams").write_bytes(data)
        return kit.infer(place, pretrained_model_name_or_path=base)

    return build


def _shape(*sizes: int) -> bytes:
    return b"(" + b"".join(huge(size) for size in sizes) + b"t"


def _shared() -> Iterator[tuple[str, bytes]]:
    """One tensor, or one container of it, under many names of each layout."""
    again = b"j" + struct.pack("<I", 7)
    kept = b"r" + struct.pack("<I", 7) + b"0"
    values = bytes(4 * WIDE)
    kinds = {
        "array": (array(_shape(1, WIDE), values), lambda pickled: pickled),
        "rows": (array(_shape(50, WIDE // 50), values), lambda pickled: pickled),
        "tensor": (
            tensor(_shape(1, WIDE), _shape(WIDE, 1), length=WIDE),
            lambda pickled: zip_of(("a/data.pkl", pickled), ("a/byteorder", b"little"), ("a/data/0", values)),
        ),
        "view of stride zero": (
            tensor(_shape(500, 100), _shape(0, 1), length=WIDE),
            lambda pickled: zip_of(("a/data.pkl", pickled), ("a/byteorder", b"little"), ("a/data/0", values)),
        ),
    }
    for (kind, (value, wrap)), count in itertools.product(kinds.items(), (3, MANY)):
        entries = b"".join(text(f"<{i}>") + again for i in range(count))
        table = b"}(" + entries + b"u"
        layouts = {
            "names": table,
            "parameters": b"}" + text("string_to_param") + table + b"s",
            "encoders": b"}(" + text("clip_l") + table + text("clip_g") + table + b"u",
            "nested": b"}" + text("string_to_param") + b"}" + text("*") + table + b"ss",
        }
        for layout, content in layouts.items():
            amount = "few" if count == 3 else "many"
            yield f"{amount} {layout} of one {kind}", wrap(b"\x80\x02" + value + kept + content + b".")


def _safetensors(header: bytes, values: bytes = bytes(16)) -> bytes:
    return struct.pack("<Q", len(header)) + header + values


def _headers() -> Iterator[tuple[str, bytes]]:
    """safetensors whose headers are long, deep, or full of names."""
    one = {"dtype": "F32", "shape": [1, 4], "data_offsets": [0, 16]}
    empty = {"dtype": "F32", "shape": [0, 4], "data_offsets": [0, 0]}
    many = {f"<{i}>": empty for i in range(20_000)}
    yield "very many empty tensors", _safetensors(json.dumps(many | {"<a>": one}).encode())
    yield "one tensor under many names", _safetensors(json.dumps({f"<{i}>": one for i in range(9_000)}).encode())
    yield "names of a million letters", _safetensors(json.dumps({"x" * 1_000_000: one}).encode())
    yield "a shape of many axes", _safetensors(json.dumps({"<a>": one | {"shape": [1] * 200_000 + [4]}}).encode())
    yield (
        "metadata of many entries",
        _safetensors(json.dumps({"__metadata__": {str(i): "x" for i in range(300_000)}, "<a>": one}).encode()),
    )
    yield "metadata nested", _safetensors(b'{"__metadata__":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001)
    yield "numbers of many digits", _safetensors(b'{"<a>":{"dtype":"F32","shape":[' + b"9" * 900_000 + b"]}}")
    yield "numbers with exponents", _safetensors(b'{"<a>":{"dtype":"F32","shape":[1e999999,4],"data_offsets":[0,16]}}')
    yield "lone surrogates", _safetensors(b'{"\\ud800":{"dtype":"F32","shape":[1,0],"data_offsets":[0,16]}}')
    yield "a header longer than the file", struct.pack("<Q", 2**62) + b"{}"
    yield "a header of blanks", _safetensors(b"{" + b" " * 30_000_000 + b"}")
    yield "the same key again and again", _safetensors(b"{" + b'"a":1,' * 400_000 + b'"b":2}')


def _archives() -> Iterator[tuple[str, bytes]]:
    """Zip archives of many, deep or swollen parts."""
    inner = b"\x80\x02}."
    yield "parts in folders a thousand deep", zip_of(*((f"{'a/' * 1000}{i}", b"") for i in range(500)))
    yield "many parts of one name", zip_of(*(("a/data.pkl", inner) for _ in range(3_000)))
    yield "many parts beside a pickle", zip_of(("a/data.pkl", inner), *((f"a/data/{i}", b"") for i in range(15_000)))
    yield "a comment as long as can be", archive(inner)[:-2] + b"\xff\xff" + b"x" * 65_535
    swollen = zip_of(("a/data.pkl", bytes(300_000_000)), compression=8)
    yield "a pickle of zeros, packed", swollen
    yield (
        "values of zeros, packed",
        zip_of(("a/data.pkl", inner), ("a/byteorder", b"little"), ("a/data/0", bytes(300_000_000)), compression=8),
    )
    yield "packed with bzip2", zip_of(("a/data.pkl", bytes(50_000_000)), compression=12)
    yield "packed with lzma", zip_of(("a/data.pkl", bytes(50_000_000)), compression=14)
    yield "gzip of zeros", b"\x1f\x8b\x08\0\0\0\0\0\0\3" + zlib.compress(bytes(50_000_000))[2:]


def _pickles() -> Iterator[tuple[str, bytes]]:
    """Pickles that work for long, or grow what they hold."""
    double = b"\x80\x02X\x01\x00\x00\x00xq\x00"
    yield "text doubled by formatting", double + b"c_codecs\nencode\n(h\x00X\x05\x00\x00\x00utf-8tR."
    yield "encoded text as values", b"\x80\x02c_codecs\nencode\n(" + text("x" * 4_000_000) + text("latin1") + b"tR."
    yield (
        "the same text encoded again and again",
        (
            b"\x80\x02"
            + text("x" * 100_000)
            + b"q\x01"
            + b"c_codecs\nencode\n(h\x01"
            + text("latin1")
            + b"tR0" * 1
            + b"N."
        ),
    )
    loop = b"c_codecs\nencode\nq\x02" + b"0" + b"h\x02(h\x01" + text("latin1") + b"tR0"
    yield (
        "encoding in a loop",
        (
            b"\x80\x02"
            + text("x" * 1_000_000)
            + b"q\x010c_codecs\nencode\nq\x020"
            + (b"h\x02(h\x01" + text("latin1") + b"tR0") * 2_000
            + b"N."
        ),
    )
    yield (
        "a wider encoding in a loop",
        loop
        and (
            b"\x80\x02"
            + text("x" * 1_000_000)
            + b"q\x010c_codecs\nencode\nq\x020]"
            + (b"h\x02(h\x01" + text("utf-32") + b"tRa") * 500
            + b"."
        ),
    )
    yield (
        "an ordered dictionary of itself",
        (b"\x80\x02ccollections\nOrderedDict\n]]" + b"(" + b"K\x01K\x02" * 1000 + b"laa\x85R."),
    )
    yield (
        "types of many names",
        b"\x80\x02" + b"".join(b"cnumpy\ndtype\n(" + text(f"V{i}") + b"tR0" for i in range(1, 40_000)) + b"N.",
    )
    yield (
        "arrays of no values, many",
        b"\x80\x02}(" + b"".join(text(f"<{i}>") + array(_shape(0, 768), b"") for i in range(4_000)) + b"u.",
    )
    yield (
        "whole numbers of a million digits",
        b"\x80\x02\x8b" + struct.pack("<i", 1_000_000) + b"\x7f" * 1_000_000 + b".",
    )
    yield "text numbers of many digits", b"I" + b"9" * 1_000_000 + b"\n."
    yield "frozen sets of sets", b"\x80\x04" + b"(" * 50_000 + b"\x91" * 50_000 + b"."
    yield "nested tuples as keys", b"\x80\x02}" + b")" + b"\x85" * 50_000 + b"Ns."
    yield "a dictionary of long names", pickle.dumps({f"{i:05}" + "x" * 300: 1.0 for i in range(4_000)}, 2)
