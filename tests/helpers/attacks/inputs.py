"""What a user names or lays beside images: paths that are no files, and files whose contents cost or deceive."""

import os
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from helpers.attacks.attack import EITHER, MOST_BYTES, Attack, Kit
from helpers.attacks.base_models import _unfile
from textual_inversion.data.image_memory import PHOTO_BYTES

# The formats of phones, whose decoders may take more.
PHOTOS = ("a WebP of 24 megapixels", "a JPEG 2000 of 20 megapixels")
UNFILES = ("a folder", "a pipe", "a link to nowhere", "a link to itself", "endless", "unreadable")
EVIL = "\x1b]0;owned\x07\x1b[2J\u202ex\nerror: forged"
TEXTS = {
    "a gigabyte": None,
    "60 MB": b"a photo of <cat>\n" * 3_500_000,
    "not text": b"\xff\xfe\xfa" * 100,
    "zero bytes": bytes(100_000),
    "one line of a million letters": b"<cat> " + b"x" * 1_000_000,
    "a million lines": b"<cat>\n" * 1_000_000,
    "escapes": b"\x1b]0;owned\x07\x1b[2J<cat>\nerror: forged\n",
    "turned letters": "<cat> \u202e\u2066x".encode(),
    "braces": b"{" * 10_000 + b"}{0.__class__}{<cat>!r:>999999999}",
    "a lone surrogate": b"<cat> \xed\xa0\x80",
    "fields": b"{0[" + b"0" * 100 + b"]} {} {:>1000000000}",
    "percent signs": b"%s %n %(x)1000000000s <cat>",
    "empty": b"",
    "only blanks": b" \n\t\n" * 1000,
}


def attacks(kit: Kit, chance: random.Random) -> Iterator[Attack]:
    """Of each kind."""
    yield from _of_paths(kit)
    yield from _of_texts(kit)
    yield from _of_configurations(kit)
    yield from _of_images(kit)
    yield from _of_names(kit)


def _thing(place: Path, kind: str) -> Path:
    (place / "thing.x").write_bytes(b"x")
    _unfile(place / "thing.x", kind)
    return place / "thing.x"


def _of_paths(kit: Kit) -> Iterator[Attack]:
    """Every flag that takes a path, with things that are no such file."""
    flags = {
        "infer": ("config", "embeds", "pretrained_model_name_or_path", "tokenizer_name", "cache_dir", "output_dir"),
        "score": (
            "config",
            "embeds",
            "train_data_dir",
            "pretrained_model_name_or_path",
            "tokenizer_name",
            "clip_model",
            "cache_dir",
            "output",
        ),
        "train": (
            "config",
            "pretrained_model_name_or_path",
            "tokenizer_name",
            "train_data_dir",
            "initializer_embeds",
            "template_file",
            "mask_dir",
            "validation_prompts_file",
            "clip_model",
            "logging_dir",
            "output_dir",
            "resume_from_checkpoint",
            "cache_dir",
        ),
    }
    for command, names in flags.items():
        for flag in names:
            for kind in UNFILES:

                def build(place: Path, command: str = command, flag: str = flag, kind: str = kind) -> list[str]:
                    more = {"initializer_token": None} if flag == "initializer_embeds" else {}
                    return getattr(kit, command)(place, **{flag: _thing(place, kind)} | more)

                yield Attack(4, f"{command} --{flag} is {kind}", build, EITHER)


def _of_texts(kit: Kit) -> Iterator[Attack]:
    """Captions, templates and prompts of every kind of text."""
    for kind, data in TEXTS.items():
        for what in ("caption", "template", "prompts", "embedding"):

            def build(place: Path, what: str = what, data: bytes | None = data) -> list[str]:
                file = place / "words.txt"
                if what == "caption":
                    file = kit.copy("images", place / "images") / "0.txt"
                _fill(file, data)
                if what == "caption":
                    return kit.train(place, train_data_dir=place / "images")
                if what == "template":
                    return kit.train(place, template_file=file)
                if what == "prompts":
                    return kit.train(place, validation_prompts_file=file, validation_steps=1)
                return kit.infer(place, embeds=file)

            yield Attack(4, f"{what}: a text that is {kind}", build, EITHER)
    for kind in UNFILES:

        def build(place: Path, kind: str = kind) -> list[str]:
            images = kit.copy("images", place / "images")
            (images / "0.txt").write_text("x")
            _unfile(images / "0.txt", kind)
            return kit.train(place, train_data_dir=images)

        yield Attack(4, f"a caption that is {kind}", build, EITHER)


def _fill(file: Path, data: bytes | None) -> None:
    if data is None:
        with open(file, "wb") as opened:
            opened.truncate(1 << 30)
    else:
        file.write_bytes(data)


def _of_configurations(kit: Kit) -> Iterator[Attack]:
    """Configuration files."""
    laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{i + 1}: &a{i + 1} [{','.join([f'*a{i}'] * 9)}]\n" for i in range(9)
    )
    texts = {
        "nested": "[" * 5_000,
        "nested objects": "{a: " * 5_000,
        "nested in lines": "".join(" " * i + "a:\n" for i in range(2_000)),
        "of anchors": laughs + "prompt: *a9\n",
        "of tags": "prompt: !!python/object/apply:os.system ['true']\n",
        "of many documents": "---\nseed: 1\n" * 100_000,
        "of many keys": "".join(f"k{i}: 1\n" for i in range(200_000)),
        "a number of many digits": "seed: " + "9" * 100_000 + "\n",
        "of a date": "seed: 2020-01-01\n",
        "of a merge": "a: &a {seed: 1}\n<<: [*a, *a]\n",
        "of itself": "&a seed: *a\n",
        "sexagesimal": "seed: " + "1:" * 50_000 + "1\n",
        "escapes": 'seed: "\\e[2J\\a"\n',
        "a surrogate": 'prompt: "\\ud800"\n',
        "a list of lists": "prompt: [[[[a]]]]\n",
        "an object as a number": "seed: {a: 1}\n",
        "NaN": "guidance_scale: .nan\n",
        "infinity": "guidance_scale: .inf\n",
        "not text": "\x00\x01",
        "binary": "prompt: !!binary |\n  aGVsbG8=\n",
        "a set": "prompt: !!set {a, b}\n",
        "an indicator": "%YAML 9.9\n---\nseed: 1\n",
        "a key that is a list": "? [a, b]\n: 1\n",
        "nothing": "~\n",
    }
    for kind, content in texts.items():
        for command in ("infer", "train"):

            def build(place: Path, command: str = command, content: str = content) -> list[str]:
                (place / "config.yaml").write_text(content)
                line = getattr(kit, command)(place, config=place / "config.yaml", seed=None, prompt=None)
                return line

            yield Attack(9, f"{command}: a configuration {kind}", build, EITHER)


# ---------------------------------------------------------------------------------------------------------- images


def _png(
    width: int, height: int, depth: int = 8, color: int = 2, *chunks: tuple[bytes, bytes], rows: bool = True
) -> bytes:
    """A PNG of zeros."""
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    packer = zlib.compressobj(9)
    data = b""
    if rows:
        row = bytes(1 + (width * bits + 7) // 8)
        data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    parts = [
        (b"IHDR", struct.pack(">2L5B", width, height, depth, color, 0, 0, 0)),
        *chunks,
        (b"IDAT", data),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">L", len(body)) + name + body + struct.pack(">L", zlib.crc32(name + body)) for name, body in parts
    )


def _saved(image: Image.Image, format: str, **more) -> bytes:
    import io

    buffer = io.BytesIO()
    image.save(buffer, format, **more)
    return buffer.getvalue()


def _floats(value: float, *, flat: bool) -> bytes:
    array = np.full((32, 40), value, np.float32)
    if not flat:
        array[:, 20:] = 1
    return _saved(Image.fromarray(array), "TIFF")


def _large(format: str, side: int, mode: str = "RGB", **more) -> bytes:
    return _saved(Image.new(mode, (side, side)), format, **more)


def _directory(entries: int, size: int, data: int) -> bytes:
    """A TIFF's directory of tags that all have the same bytes, of which there are `data` behind it."""
    tags = b"".join(struct.pack("<HHLL", 0x8000 + i % 0x7000, 7, size, 8) for i in range(entries))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", entries) + tags + bytes(4 + data)


def _with_segments(*segments: tuple[int, bytes]) -> bytes:
    """A JPEG with more segments."""
    whole = _large("JPEG", 40)
    more = b"".join(b"\xff" + bytes([kind]) + struct.pack(">H", len(data) + 2) + data for kind, data in segments)
    return whole[:2] + more + whole[2:]


def _of_scans(number: int) -> bytes:
    """A progressive JPEG of 25 megapixels whose last scan comes again and again."""
    whole = _large("JPEG", 5_000, progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * number + whole[-2:]


def _tiled(side: int, tile: int) -> bytes:
    """A TIFF of a few pixels in one tile, packed, that is far larger."""
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(3 * tile)) for _ in range(tile)) + packer.flush()
    values = {
        256: side,
        257: side,
        258: 8,
        259: 8,
        262: 2,
        277: 3,
        284: 1,
        322: tile,
        323: tile,
        324: 0,
        325: len(data),
    }
    values[324] = 8 + 2 + 12 * len(values) + 4
    tags = b"".join(struct.pack("<HHLL", tag, 4, 1, value) for tag, value in values.items())
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(values)) + tags + bytes(4) + data


def _gif_of_comments(blocks: int) -> bytes:
    whole = _saved(Image.new("P", (40, 32)), "GIF")
    begin = 13 + (3 << ((whole[10] & 7) + 1) if whole[10] & 0x80 else 0)
    return whole[:begin] + b"!\xfe" + (b"\xff" + b"c" * 255) * blocks + b"\0" + whole[begin:]


def _large_images() -> dict[str, tuple[str, Callable[[], bytes]]]:
    """Those whose size, or the size of what they announce, is the attack."""
    exif = b"Exif\0\0" + _directory(4_000, 15_000, 0)
    return {
        "a JPEG of 127 megapixels": (".jpg", partial(_large, "JPEG", 11_270)),
        "a progressive JPEG of 100 megapixels": (".jpg", partial(_large, "JPEG", 10_000, progressive=True)),
        "a progressive JPEG of 50 megapixels": (".jpg", partial(_large, "JPEG", 7_070, progressive=True)),
        "a JPEG of 40 megapixels in CMYK": (".jpg", partial(_large, "JPEG", 6_300, "CMYK")),
        "a PNG of 39 megapixels": (".png", partial(_png, 6_240, 6_240)),
        "a PNG of 39 megapixels and 16 bits": (".png", partial(_png, 6_240, 6_240, 16, 6)),
        "a PNG of 74 megapixels of grey and 16 bits": (".png", partial(_png, 8_600, 8_600, 16, 0)),
        "a PNG of one bit and 127 megapixels": (".png", partial(_png, 11_270, 11_270, 1, 0)),
        "a WebP of 10 megapixels": (".webp", partial(_large, "WEBP", 3_200)),
        "a WebP of 24 megapixels": (".webp", partial(_large, "WEBP", 4_900)),
        "a WebP of 30 megapixels": (".webp", partial(_large, "WEBP", 5_500)),
        "a WebP of 100 megapixels": (".webp", partial(_large, "WEBP", 10_000)),
        "an AVIF of 12 megapixels": (".avif", partial(_large, "AVIF", 3_500, speed=10)),
        "an AVIF of 30 megapixels": (".avif", partial(_large, "AVIF", 5_500, speed=10)),
        "a JPEG 2000 of 20 megapixels": (".jp2", partial(_large, "JPEG2000", 4_500)),
        "a JPEG 2000 of 30 megapixels": (".jp2", partial(_large, "JPEG2000", 5_500)),
        "a GIF of 80 megapixels": (".gif", partial(_large, "GIF", 8_950, "P")),
        "a TIFF of 39 megapixels of floats": (".tif", partial(_large, "TIFF", 6_240, "F", compression="tiff_lzw")),
        "a QOI of 16 megapixels": (".qoi", partial(_large, "QOI", 4_000)),
        "a BMP of 39 megapixels": (".bmp", partial(_large, "BMP", 6_240)),
        "a PPM of 16 bits": (".ppm", lambda: b"P6 3000 3000 65535\n" + bytes(6 * 9_000_000)),
        "a TIFF whose tile is larger": (".tif", partial(_tiled, 64, 16_384)),
        "a TIFF of 60,000 tags on one megabyte": (".tif", partial(_directory, 60_000, 1_000_000, 1_000_000)),
        "a JPEG of EXIF tags on the same bytes": (".jpg", lambda: _with_segments((0xE1, exif))),
        "a JPEG of MPF tags on the same bytes": (".jpg", lambda: _with_segments((0xE2, b"MPF\0" + exif[6:]))),
        "a PNG of EXIF tags on the same bytes": (
            ".png", lambda: _png(40, 32, 8, 2, (b"eXIf", _directory(60_000, 700_000, 1_000))),
        ),
        "a JPEG of many segments": (".jpg", lambda: _with_segments(*[(0xE5, bytes(65_000))] * 4_000)),
        "a JPEG of small segments": (".jpg", lambda: _with_segments(*[(0xFE, b"x")] * 400_000)),
        "a JPEG of many scans": (".jpg", partial(_of_scans, 2_000)),
        "a JPEG behind much else": (".jpg", lambda: b"\xff\xd8\xff\0" + b"x" * 50_000_000 + _large("JPEG", 40)[2:]),
        "a GIF of comments": (".gif", partial(_gif_of_comments, 100_000)),
        "a bitmap of a large header": (
            ".bmp", lambda: b"BM" + struct.pack("<LHHLL", 100, 0, 0, 54, 260_000_000) + bytes(260_000_000),
        ),
        "a PNG of a private chunk": (".png", lambda: _png(40, 32, 8, 2, (b"prVt", bytes(260_000_000)))),
        "a PNG of a chunk without an end": (
            ".png", lambda: _png(40, 32)[:33] + b"\x7f\xff\xff\xffeXIf" + bytes(260_000_000),
        ),
    }  # fmt: skip


def _images() -> dict[str, tuple[str, bytes | Callable[[], bytes]]]:
    """Name -> (ending, contents); what takes long is made when it is wanted."""
    packed = zlib.compress(b"x" * 40_000_000, 9)
    icc = b"\x00\x00\x02\x00" + b"lcms" + bytes(504)
    small = Image.new("RGB", (40, 32), (200, 10, 10))
    animated = [Image.new("P", (40, 32), i % 256) for i in range(200)]
    return {
        "a PNG of 128 megapixels": (".png", partial(_png, 16_000, 8_000, 8, 2)),
        "a PNG of 100 megapixels and 16 bits": (".png", partial(_png, 10_000, 10_000, 16, 6)),
        "a PNG of one bit and many pixels": (".png", partial(_png, 40_000, 4_000, 1, 0)),
        "a PNG that announces 2**31 pixels a side": (".png", _png(2**31 - 1, 2**31 - 1, rows=False)),
        "a PNG of one row": (".png", _png(100_000, 1)),
        "a PNG of one column": (".png", _png(1, 100_000)),
        "a PNG without pixels": (".png", _png(0, 0, rows=False)),
        "a PNG without rows": (".png", _png(40, 32, rows=False)),
        "a PNG of packed text": (".png", _png(40, 32, 8, 2, (b"zTXt", b"a\0\0" + packed))),
        "a PNG of packed international text": (".png", _png(40, 32, 8, 2, (b"iTXt", b"a\0\1\0\0\0" + packed))),
        "a PNG of a packed profile": (".png", _png(40, 32, 8, 2, (b"iCCP", b"a\0\0" + packed))),
        "a PNG of a broken profile": (".png", _png(40, 32, 8, 2, (b"iCCP", b"\x1b[2J\0\0" + zlib.compress(icc)))),
        "a PNG of many chunks": (".png", partial(_png, 40, 32, 8, 2, *[(b"tEXt", b"a\0b")] * 200_000)),
        "a PNG of EXIF that turns in circles": (
            ".png",
            _png(40, 32, 8, 2, (b"eXIf", b"MM\0*\0\0\0\x08\0\1\x87\x69\0\4\0\0\0\1\0\0\0\x08")),
        ),
        "a palette without colours": (".png", _png(40, 32, 8, 3)),
        "a flat TIFF of floats": (".tif", _floats(5.0, flat=True)),
        "a TIFF of NaN": (".tif", _floats(float("nan"), flat=True)),
        "a TIFF of some NaN": (".tif", _floats(float("nan"), flat=False)),
        "a TIFF of infinities": (".tif", _floats(float("inf"), flat=False)),
        "a TIFF of huge floats": (".tif", _floats(3e38, flat=False)),
        "a TIFF of -inf": (".tif", _floats(float("-inf"), flat=True)),
        "a flat TIFF of whole numbers": (".tif", _saved(Image.fromarray(np.full((32, 40), 2**30, np.int32)), "TIFF")),
        "a flat PNG of 16 bits": (".png", _saved(Image.fromarray(np.zeros((32, 40), np.uint16)), "PNG")),
        "a GIF of many frames": (".gif", _saved(animated[0], "GIF", save_all=True, append_images=animated[1:])),
        "a JPEG cut short": (".jpg", _saved(small.resize((400, 320)), "JPEG")[:2000]),
        "a WebP cut short": (".webp", _saved(small.resize((400, 320)), "WEBP")[:60]),
        "a BMP that announces a lot": (
            ".bmp",
            b"BM" + struct.pack("<LHHLLllHHLLllLL", 100, 0, 0, 54, 40, 2**30, 2**30, 1, 24, 0, 0, 0, 0, 0, 0),
        ),
        "a PPM that announces a lot": (".ppm", b"P6 1000000000 1000000000 255\n"),
        "an EPS": (".eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        "an SVG": (".svg", b"<svg xmlns='http://www.w3.org/2000/svg'><image href='http://127.0.0.1/x'/></svg>"),
        "a PNG that is text": (".png", b"<cat>"),
        "an empty PNG": (".png", b""),
        "an ICO of nothing": (".ico", b"\0\0\1\0\xff\xff"),
        "fully clear": (".png", _saved(Image.new("RGBA", (40, 32), (9, 9, 9, 0)), "PNG")),
        "a TIFF that points to itself": (".tif", b"II*\0\x08\0\0\0\0\0\x08\0\0\0"),
        "a TIFF of many strips": (".tif", b"II*\0\x08\0\0\0\1\0\x11\1\4\0\xff\xff\xff\x0f\0\0\0\0\0\0\0\0"),
        "an ICNS, a PSD": (
            ".psd",
            b"8BPS\0\1" + bytes(6) + struct.pack(">HLLHH", 3, 300_000, 300_000, 8, 3) + bytes(60),
        ),
    }


def _of_images(kit: Kit) -> Iterator[Attack]:
    """Images and masks; several of the large ones."""
    for name, (ending, data) in (_images() | _large_images()).items():
        for what in ("image", "mask"):

            def build(place: Path, what: str = what, ending: str = ending, data: Any = data) -> list[str]:
                content = data() if callable(data) else data
                images = kit.copy("images", place / "images")
                if what == "image":
                    (images / f"9{ending}").write_bytes(content)
                    return kit.train(place, train_data_dir=images)
                (place / "masks").mkdir()
                (place / f"masks/0{ending}").write_bytes(content)
                (place / "masks/1.png").write_bytes((images / "1.png").read_bytes())
                return kit.train(place, train_data_dir=images, mask_dir=place / "masks")

            most = PHOTO_BYTES if name in PHOTOS else MOST_BYTES
            yield Attack(10, f"{what}: {name}", build, EITHER, most)
    for kind in UNFILES:

        def build(place: Path, kind: str = kind) -> list[str]:
            images = kit.copy("images", place / "images")
            _unfile(images / "0.png", kind)
            return kit.train(place, train_data_dir=images)

        yield Attack(10, f"an image that is {kind}", build, EITHER)

    def several(place: Path) -> list[str]:
        (place / "images").mkdir()
        data = _png(9_000, 9_000)
        for number in range(2):
            (place / f"images/{number}.png").write_bytes(data)
        return kit.train(place, train_data_dir=place / "images")

    yield Attack(10, "two images of 81 megapixels", several, EITHER)


def _of_names(kit: Kit) -> Iterator[Attack]:
    """Names, words and prompts with escapes."""
    evil = EVIL

    def image(place: Path) -> list[str]:
        images = kit.copy("images", place / "images")
        (images / f"{evil}.png").write_bytes(_png(40, 32, 8, 2, (b"iCCP", b"\x1b[2J\0\0" + zlib.compress(b"x"))))
        (images / f"a{evil}.png").write_bytes(b"no image")
        return kit.train(place, train_data_dir=images)

    def folder(place: Path) -> list[str]:
        return kit.train(place, train_data_dir=kit.copy("images", place / evil))

    def base(place: Path) -> list[str]:
        copy = kit.copy("base", place / evil)
        os.unlink(copy / "unet/config.json")
        return kit.infer(place, pretrained_model_name_or_path=copy)

    yield Attack(11, "an image whose name holds escapes", image, EITHER)
    yield Attack(11, "a folder whose name holds escapes", folder, EITHER)
    yield Attack(11, "a base model whose name holds escapes", base)
    for flag in (
        "prompt",
        "negative_prompt",
        "scheduler",
        "output_dir",
        "embeds",
        "tokenizer_name",
        "rename",
        "device",
        "pretrained_model_name_or_path",
    ):
        yield Attack(
            11, f"infer --{flag} of escapes", lambda place, flag=flag: kit.infer(place, **{flag: evil}), EITHER
        )
    for flag in (
        "placeholder_token",
        "initializer_token",
        "train_data_dir",
        "validation_prompt",
        "language",
        "device",
        "template_file",
        "output_dir",
        "optimizer",
        "lr_scheduler",
        "resume_from_checkpoint",
    ):
        yield Attack(
            11, f"train --{flag} of escapes", lambda place, flag=flag: kit.train(place, **{flag: evil}), EITHER
        )
