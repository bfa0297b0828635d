"""Images of strangers: a small file may stand for a flood of memory, for values that are none, or for no image."""

import os
import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, TiffImagePlugin

from helpers.attacks import inputs
from helpers.paths import ROOT
from textual_inversion.data import dataset, image_memory, images
from textual_inversion.data.image_formats import open_image
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


MEASURED = """
import sys
sys.path.insert(0, {root!r})
from textual_inversion.data import images
from textual_inversion.system.errors import ImageError

def resident(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) << 10

images.load_image({small!r})
before = resident("VmRSS")
for path in {paths!r}:
    open("/proc/self/clear_refs", "w").write("5")  # the highest is now what there is
    for _ in range(3):
        try:
            images.content_digest(images.load_image(path))
        except ImageError:
            pass
    print(resident("VmHWM") - before)
"""
MILLIONS = 16
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
    Image.new("RGB", (64, 64)).save(tmp_path / "small.png")
    paths = [str(tmp_path / kind) for kind in kinds]
    program = MEASURED.format(root=str(ROOT), small=str(tmp_path / "small.png"), paths=paths)

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)

    taken = dict(zip(kinds, map(int, done.stdout.split()), strict=True))
    print({kind: f"{number / MILLIONS / 1e6:.1f} bytes a pixel" for kind, number in taken.items()})
    assert all(number < 9 * MILLIONS * 1_000_000 + 30_000_000 for number in taken.values()), taken


LIMITS = {  # format, mode, more -> the largest in millions of pixels, as the pages say
    "JPEG": ("JPEG", "RGB", {}, 128), "progressive JPEG": ("JPEG", "RGB", {"progressive": True}, 54),
    "progressive JPEG in full": ("JPEG", "RGB", {"progressive": True, "subsampling": 0}, 27),
    "PNG": ("PNG", "RGB", {}, 39), "grey PNG": ("PNG", "L", {}, 128), "palette": ("PNG", "P", {}, 128),
    "16 bits": ("PNG", "I;16", {}, 74), "TIFF": ("TIFF", "RGB", {"compression": "tiff_lzw"}, 39),
    "floats": ("TIFF", "F", {"compression": "tiff_lzw"}, 39), "BMP": ("BMP", "RGB", {}, 39),
    "TGA": ("TGA", "RGBA", {}, 39), "PPM": ("PPM", "RGB", {}, 39), "GIF": ("GIF", "P", {}, 84),
    "AVIF": ("AVIF", "RGB", {"speed": 10}, 12), "WebP": ("WEBP", "RGBA", {}, 10), "SGI": ("SGI", "RGB", {}, 16),
    "JPEG 2000": ("JPEG2000", "RGB", {}, 8), "QOI": ("QOI", "RGB", {}, 21),
}  # fmt: skip
AS_IT_IS = 21_000_000


def planned(content: bytes, pixels: int, kind: str):
    """How an image like this one, of so many pixels, is read."""
    image = open_image(BytesIO(content), Path("a.tga" if kind == "TGA" else "a"))
    image._size = (4000, pixels // 4000)
    return image_memory.plan(image, BytesIO(content), is_upright=False)


@pytest.mark.parametrize("kind", LIMITS)
def test_the_limits_are_those_of_the_pages_and_smaller_images_are_read_as_they_are(kind):
    format, mode, more, millions = LIMITS[kind]
    buffer = BytesIO()
    Image.new(mode, (64, 64)).save(buffer, format, **more)
    content = buffer.getvalue()

    assert planned(content, millions * 1_000_000, kind).peak <= image_memory.MOST_BYTES
    assert not planned(content, min(AS_IT_IS, int(millions * 0.6e6)), kind).is_reduced
    with pytest.raises(image_memory.TooLarge, match=r"pixels.*make it smaller"):
        planned(content, (millions + 1) * 1_000_000, kind)


NEAR = ["JPEG", "progressive JPEG", "PNG", "palette", "16 bits", "floats", "WebP", "AVIF", "JPEG 2000", "SGI", "GIF"]
READ = """
import sys
sys.path.insert(0, {root!r})
from textual_inversion.data import images

def resident(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) << 10

images.load_image({small!r})
before = resident("VmRSS")
for function in (images.load_image, images.load_mask):
    open("/proc/self/clear_refs", "w").write("5")  # the highest is now what there is
    image = function({large!r})
    images.content_digest(image)
    images.fit(image, 500, 400, center_crop=True)
    del image
    print(resident("VmHWM") - before)
"""
WRITE = """
import sys
from PIL import Image
Image.new({mode!r}, ({side}, {side})).save({large!r}, {format!r}, **{more!r})
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", NEAR)
def test_the_largest_images_stay_below_200_mb(tmp_path, kind):
    format, mode, more, millions = LIMITS[kind]
    Image.new("RGB", (64, 64)).save(tmp_path / "small.png")
    names = dict(root=str(ROOT), small=str(tmp_path / "small.png"), large=str(tmp_path / "large.img"))
    side = int((millions * 1e6) ** 0.5)

    for program in (WRITE.format(mode=mode, side=side, format=format, more=more, **names), READ.format(**names)):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
        assert not done.returncode, done.stderr

    taken = [int(line) for line in done.stdout.split()]
    print(kind, [f"{number / 1e6:.0f} MB" for number in taken])
    assert len(taken) == 2 and max(taken) < 200_000_000


def small_image(kind: str) -> Image.Image:
    """A smooth image of 90x60 pixels, with a mode of its own."""
    down, across = np.mgrid[:60, :90].astype(np.float32)
    rgba = np.stack([across * 2.5, down * 4, across + down, 255 - across], -1).astype(np.uint8)
    if kind == "I;16":
        return Image.fromarray(rgba[:, :, 0].astype(np.uint16) * 257)
    if kind == "F":
        return Image.fromarray(across / 89)
    return Image.fromarray(rgba).convert(kind)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("kind", ["RGB", "RGBA", "L", "LA", "P", "I;16", "F", "1"])
def test_a_very_large_image_is_the_average_of_its_pixels(tmp_path, monkeypatch, kind, turned):
    exif, notes = Image.Exif(), []
    exif[0x0112] = 6 if turned else 1
    more = {} if kind == "F" else {"exif": exif}
    small_image(kind).save(tmp_path / "a.img", "TIFF" if kind == "F" else "PNG", **more)
    whole = images.load_image(tmp_path / "a.img")
    masks = images.load_mask(tmp_path / "a.img"), images.load_alpha(tmp_path / "a.img")
    one = image_memory.plan(Image.open(tmp_path / "a.img"), BytesIO(), is_upright=False) if kind != "F" else None
    monkeypatch.setattr(image_memory, "MOST_BYTES", one.peak - 1 if one else 43_000)

    reduced = images.load_image(tmp_path / "a.img", notes.append)

    assert reduced.mode == "RGB" and reduced.size == tuple(side // 2 for side in whole.size)
    assert any("has 90x60 pixels, so it is read at 1/2 of its width and height" in note for note in notes)
    close = dict(atol=1.01, rtol=0)
    np.testing.assert_allclose(np.asarray(reduced, int), np.asarray(whole.reduce(2), int), **close)
    again = images.load_mask(tmp_path / "a.img"), images.load_alpha(tmp_path / "a.img")
    for mask, before in zip(again, masks, strict=True):
        np.testing.assert_allclose(np.asarray(mask, int), np.asarray(before.reduce(2), int), **close)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_a_very_large_jpeg_is_decoded_at_a_fraction(tmp_path, monkeypatch, scale):
    small_image("RGB").resize((900, 600)).save(tmp_path / "a.jpg", quality=95)
    whole, notes = images.load_image(tmp_path / "a.jpg"), []
    monkeypatch.setattr(image_memory, "MOST_BYTES", 5 * 900 * 600 // scale**2 + 5_000)

    reduced = images.load_image(tmp_path / "a.jpg", notes.append)

    assert reduced.size == (-(-900 // scale), 600 // scale) and f"read at 1/{scale} of its" in notes[0]
    expected = np.asarray(whole.resize(reduced.size, Image.Resampling.BOX), int)
    assert np.abs(np.asarray(reduced, int) - expected).mean() < 2


def test_a_narrow_image_is_not_reduced_to_nothing(tmp_path, monkeypatch):
    Image.new("RGB", (2000, 9)).save(tmp_path / "a.png")
    monkeypatch.setattr(image_memory, "MOST_BYTES", 100_000)

    with pytest.raises(ImageError, match=r"a.png: has 2000x9 pixels .* at most"):
        images.load_image(tmp_path / "a.png")


COSTLY = [name for name in inputs._large_images() if "megapixel" not in name and "PPM" not in name]
HARMLESS = ("a PNG of a private chunk", "a PNG of EXIF tags on the same bytes", "a PNG of a chunk without an end")


@pytest.mark.slow
@pytest.mark.parametrize("name", COSTLY)
def test_headers_that_ask_for_much_are_refused_in_little_memory(tmp_path, name):
    ending, data = inputs._large_images()[name]
    (tmp_path / f"a{ending}").write_bytes(data())
    Image.new("RGB", (64, 64)).save(tmp_path / "small.png")
    program = MEASURED.format(root=str(ROOT), small=str(tmp_path / "small.png"), paths=[str(tmp_path / f"a{ending}")])

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    assert int(done.stdout) < 60_000_000
    if name not in HARMLESS:
        with pytest.raises(ImageError, match=rf"a{ending}: .*(save it anew|make it smaller|save it as|is damaged)"):
            images.load_image(tmp_path / f"a{ending}")


def test_images_are_read_side_by_side_only_as_far_as_the_memory_goes(tmp_path, monkeypatch):
    sizes, running, beside = [64, 80, 80, 64, 64, 80], set(), []
    for number, side in enumerate(sizes):
        Image.new("RGB", (side, side), (number, 0, 0)).save(tmp_path / f"{number}.png")
    monkeypatch.setattr(dataset, "MOST_BYTES", images.memory_of(tmp_path / "1.png") + 1)

    def look(path):
        running.add(path.name)
        image = images.load_image(path)
        beside.append((image.width, len(running)))
        running.discard(path.name)
        return image.getpixel((0, 0))[0]

    found = dataset.ahead(look, sorted(tmp_path.iterdir()), 4, memory=images.memory_of)

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
