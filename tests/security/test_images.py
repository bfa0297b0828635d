"""Images of strangers: a small file may stand for a flood of memory, for values that are none, or for no image."""

import os
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, TiffImagePlugin

from helpers.image_peaks import peaks
from textual_inversion.data import image_files, images
from textual_inversion.data.image_memory import MAX_PIXELS
from textual_inversion.system.errors import ImageError

FLAT = {  # value, type -> whether it can be an image: black and white of 32-bit values are not recorded
    "0 as float": (0.0, np.float32, True),
    "a half": (0.5, np.float32, True),
    "white of 255": (255.0, np.float32, True),
    "negative": (-1.0, np.float32, False),
    "beyond 16 bits": (1e6, np.float32, False),
    "the largest": (np.finfo(np.float32).max, np.float32, False),
    "whole": (70_000, np.int32, False),
    "0 as whole": (0, np.int32, True),
}


@pytest.mark.parametrize("kind", FLAT)
@pytest.mark.filterwarnings("error")
def test_one_value_everywhere_is_refused_where_its_meaning_is_not_known(tmp_path, kind):
    value, dtype, is_image = FLAT[kind]
    Image.fromarray(np.full((16, 16), value, dtype)).save(tmp_path / "a.tiff")

    if is_image:
        assert len(set(images.load_image(tmp_path / "a.tiff").get_flattened_data())) == 1
        return
    with pytest.raises(ImageError, match="a.tiff: holds .* everywhere, which is black, white or anything between"):
        images.load_image(tmp_path / "a.tiff")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("pixels", ["all", "one", "last"])
@pytest.mark.filterwarnings("error")
def test_what_is_no_number_is_told_and_not_trained_on_as_black(tmp_path, value, pixels):
    values = np.linspace(0, 1, 1 << 21, dtype=np.float32).reshape(1 << 11, 1 << 10)  # of several strips
    values[{"all": np.s_[:], "one": np.s_[3, 3], "last": np.s_[-1, -1]}[pixels]] = value
    Image.fromarray(values).save(tmp_path / "a.tiff")

    with pytest.raises(ImageError, match="a.tiff: holds values that are NaN or infinite; repair them"):
        images.load_image(tmp_path / "a.tiff")


def png(width: int, height: int, bits: int, colour: int, channels: int) -> bytes:
    """A whole PNG of one colour: a few kilobytes for each million pixels."""
    row = b"\0" + bytes(-(-width * bits * channels // 8))
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([bits, colour, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


PNGS = {  # bits, colour type, channels
    "black and white": (1, 0, 1), "grey": (8, 0, 1), "16 bits": (16, 0, 1), "RGB": (8, 2, 3), "48 bits": (16, 2, 3),
    "grey and alpha": (8, 4, 2), "RGBA": (8, 6, 4), "64 bits": (16, 6, 4),
}  # fmt: skip


@pytest.mark.parametrize("kind", PNGS)
def test_more_pixels_than_the_limit_are_refused_by_the_header(tmp_path, kind):
    bits, colour, channels = PNGS[kind]
    content = bytearray(png(64, 64, bits, colour, channels))
    content[16:24] = (20_000).to_bytes(4, "big") + (MAX_PIXELS // 20_000 + 1).to_bytes(4, "big")
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(content)

    with pytest.raises(ImageError, match="more than the limit of 128 million"):
        images.load_image(tmp_path / "a.png")


MILLIONS = 16
_READ_THREE_TIMES = """
for _ in range(3):
    try:
        images.content_digest(images.load_image(path))
    except ImageError:
        pass
"""
DEEP = {"I": np.int32, "F": np.float32}


def write_large(path: Path, kind: str) -> None:
    side = int((MILLIONS * 1e6) ** 0.5)
    if kind in PNGS:
        path.write_bytes(png(side, side, *PNGS[kind]))
    elif kind in DEEP:
        values = np.zeros((side, side), DEEP[kind])
        values[0, 0] = 3
        Image.fromarray(values).save(path, format="TIFF", compression="tiff_adobe_deflate")
    elif kind == "palette":
        image = Image.new("P", (side, side))
        image.putpalette(bytes(768))
        image.save(path, format="PNG", transparency=bytes([255, 9]))
    elif kind == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (side, side)).save(path, format="PNG", exif=exif)
    elif kind == "profile":
        profile = (
            ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().replace(b"s\0R\0G\0B", b"w\0i\0d\0e")
        )
        Image.new("RGB", (side, side)).save(path, format="PNG", icc_profile=profile)
    else:
        Image.new(kind, (side, side)).save(path, format="TIFF", compression="tiff_adobe_deflate")


@pytest.mark.slow
def test_images_of_any_kind_take_two_copies_at_most_and_several_no_more(tmp_path):
    kinds = [*PNGS, *DEEP, "CMYK", "palette", "turned", "profile"]
    for kind in kinds:
        write_large(tmp_path / kind, kind)
    paths = [str(tmp_path / kind) for kind in kinds]

    found = peaks(tmp_path, "path", repr(paths), _READ_THREE_TIMES)

    taken = dict(zip(kinds, found, strict=True))
    print({kind: f"{number / MILLIONS / 1e6:.1f} bytes a pixel" for kind, number in taken.items()})
    assert all(number < 9 * MILLIONS * 1_000_000 + 30_000_000 for number in taken.values()), taken


def test_images_are_read_side_by_side_only_as_far_as_the_memory_goes(tmp_path, monkeypatch):
    sizes, running, beside = [64, 80, 80, 64, 64, 80], set(), []
    for number, side in enumerate(sizes):
        Image.new("RGB", (side, side), (number, 0, 0)).save(tmp_path / f"{number}.png")
    monkeypatch.setattr(image_files, "MOST_BYTES", images.memory_of(tmp_path / "1.png") + 1)

    def look(path):
        running.add(path.name)
        image = images.load_image(path)
        beside.append((image.width, len(running)))
        running.discard(path.name)
        return image.getpixel((0, 0))[0]

    found = image_files.ahead(look, sorted(tmp_path.iterdir()), 4, memory=images.memory_of)

    assert list(found) == list(range(6))
    assert all(count == 1 for side, count in beside if side == 80)


def test_a_tiff_of_many_images_is_not_gone_over(tmp_path, monkeypatch):
    frames = [Image.new("L", (16, 16), number) for number in range(60)]
    frames[0].save(tmp_path / "a.tiff", save_all=True, append_images=frames[1:])
    seeks, real = [], TiffImagePlugin.TiffImageFile._seek
    monkeypatch.setattr(
        TiffImagePlugin.TiffImageFile, "_seek", lambda self, frame: (seeks.append(frame), real(self, frame))[1]
    )

    assert images.load_image(tmp_path / "a.tiff").getpixel((0, 0)) == (0, 0, 0)
    assert len(seeks) < 8


# ----------------------------------------------------------------------------------------------------- damage


def samples() -> dict[str, bytes]:
    """A small image of each format that Pillow can write, and of the modes that matter."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 4), np.uint8)
    made = {}
    for kind, mode in [
        ("PNG", "RGBA"), ("PNG", "P"), ("JPEG", "RGB"), ("JPEG", "CMYK"), ("WEBP", "RGB"), ("BMP", "RGB"), ("GIF", "P"),
        ("TIFF", "RGB"), ("TIFF", "F"), ("TIFF", "I;16"), ("JPEG2000", "RGB"), ("PPM", "RGB"), ("ICO", "RGBA"),
        ("PCX", "RGB"), ("SGI", "RGB"), ("DDS", "RGBA"), ("TGA", "RGB"), ("QOI", "RGB"),
    ]:  # fmt: skip
        image = Image.fromarray(noise).convert("L" if mode == "I;16" else mode) if mode != "F" else None
        image = Image.fromarray(noise[:, :, 0].astype(np.float32)) if image is None else image
        image = Image.fromarray(noise[:, :, 0].astype(np.uint16)) if mode == "I;16" else image
        buffer = BytesIO()
        image.save(buffer, kind)
        made[f"{kind} {mode}"] = buffer.getvalue()
    return made


SAMPLES = samples()


@pytest.mark.parametrize("kind", SAMPLES)
def test_a_damaged_image_is_used_or_refused_in_one_line(tmp_path_factory, kind):
    path = tmp_path_factory.mktemp("damaged") / ("a.tga" if "TGA" in kind else "a.img")
    content = SAMPLES[kind]

    @given(
        st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), min_size=1, max_size=6),
        st.integers(0, len(content)),
    )
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    def damage(changes, cut):
        damaged = bytearray(content)
        for place, byte in changes:
            damaged[place] = byte
        path.write_bytes(damaged[: cut if cut > len(content) // 2 else None])
        notes = []
        try:
            image = images.load_image(path, notes.append)
        except ImageError as error:
            assert str(path) in str(error) and "\n" not in str(error)
        else:
            assert image.mode == "RGB" and image.width * image.height <= MAX_PIXELS
        assert all(note.startswith(str(path)) for note in notes)

    damage()
    os.unlink(path)
