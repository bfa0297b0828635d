"""How much memory an image takes, and at what scale it is read therefore."""

import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.image_peaks import peaks
from textual_inversion.data import image_memory, images
from textual_inversion.data.image_formats import open_image
from textual_inversion.system.errors import ImageError

LIMITS = {  # format, mode, more -> the largest in millions of pixels, as the pages say
    "JPEG": ("JPEG", "RGB", {}, 128), "progressive JPEG": ("JPEG", "RGB", {"progressive": True}, 54),
    "progressive JPEG in full": ("JPEG", "RGB", {"progressive": True, "subsampling": 0}, 27),
    "PNG": ("PNG", "RGB", {}, 39), "grey PNG": ("PNG", "L", {}, 128), "palette": ("PNG", "P", {}, 128),
    "16 bits": ("PNG", "I;16", {}, 74), "TIFF": ("TIFF", "RGB", {"compression": "tiff_lzw"}, 39),
    "floats": ("TIFF", "F", {"compression": "tiff_lzw"}, 39), "BMP": ("BMP", "RGB", {}, 39),
    "TGA": ("TGA", "RGBA", {}, 39), "PPM": ("PPM", "RGB", {}, 39), "GIF": ("GIF", "P", {}, 84),
    "AVIF": ("AVIF", "RGB", {"speed": 10}, 25), "WebP": ("WEBP", "RGB", {}, 25), "SGI": ("SGI", "RGB", {}, 16),
    "JPEG 2000": ("JPEG2000", "RGB", {}, 25), "QOI": ("QOI", "RGB", {}, 21),
}  # fmt: skip
AS_IT_IS = 21_000_000
OF_PHONES = ("AVIF", "WebP", "JPEG 2000")


def most_bytes(kind: str) -> int:
    """What reading the largest image of a kind may take."""
    return image_memory.PHOTO_BYTES if kind in OF_PHONES else image_memory.MOST_BYTES


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

    assert planned(content, millions * 1_000_000, kind).peak <= most_bytes(kind)
    assert not planned(content, min(AS_IT_IS, int(millions * 0.6e6)), kind).is_reduced
    with pytest.raises(image_memory.TooLarge, match=r"pixels.*make it smaller"):
        planned(content, (millions + 1) * 1_000_000, kind)


NEAR = ["JPEG", "progressive JPEG", "PNG", "palette", "16 bits", "floats", "WebP", "AVIF", "JPEG 2000", "SGI", "GIF"]
READ = """
image = function({large!r})
images.content_digest(image)
images.fit(image, 500, 400, center_crop=True)
del image
"""
WRITE = """
import sys
from PIL import Image
Image.new({mode!r}, ({side}, {side})).save({large!r}, {format!r}, **{more!r})
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", NEAR)
def test_the_largest_images_stay_within_what_they_may_take(tmp_path, kind):
    format, mode, more, millions = LIMITS[kind]
    large, side = str(tmp_path / "large.img"), int((millions * 1e6) ** 0.5)
    program = WRITE.format(mode=mode, side=side, format=format, more=more, large=large)
    subprocess.run([sys.executable, "-c", program], timeout=120, check=True)

    taken = peaks(tmp_path, "function", "(images.load_image, images.load_mask)", READ.format(large=large))

    print(kind, [f"{number / 1e6:.0f} MB" for number in taken])
    assert len(taken) == 2 and max(taken) < most_bytes(kind) + 32_000_000


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

    with pytest.raises(ImageError, match=r"a.png: has 2000x9 pixels, and 0 MB are needed"):
        images.load_image(tmp_path / "a.png")
