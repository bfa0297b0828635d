"""Formats are told apart by content; those that need a package are read where it is installed, and no others are."""

import struct
import sys
import zlib
from types import ModuleType

import numpy as np
import pytest
from PIL import Image, ImageFile

from textual_inversion.data import image_formats
from textual_inversion.data.image_formats import PLUGINS, is_image, missing_plugin, plugin_of
from textual_inversion.data.images import load_image
from textual_inversion.system.errors import ImageError

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


@pytest.mark.parametrize(
    ("head", "label"),
    [
        (HEIC, "HEIC"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf", "HEIC"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "AVIF"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", "AVIF"),
        (b"\0\0\0\x18ftypisom\0\0\0\0mp42mp41", None),  # a film
        (b"\xff\x0a" + bytes(20), "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\xff\xd8\xff\xe0", None),
        (b"", None),
    ],
)
def test_which_package_a_file_needs_is_told_by_its_first_bytes(head, label):
    found = plugin_of(head)

    assert (found and found.label) == label


@pytest.fixture
def no_plugins(monkeypatch):
    """As if none of the packages were installed, and none had been asked for."""
    for plugin in PLUGINS:
        monkeypatch.setitem(sys.modules, plugin.module, None)
        monkeypatch.delitem(Image.OPEN, plugin.format, raising=False)
    monkeypatch.setattr(image_formats.features, "get_supported", lambda: [])
    image_formats._is_ready.cache_clear()
    yield
    image_formats._is_ready.cache_clear()


def test_a_package_that_is_installed_is_used(tmp_path, monkeypatch, no_plugins):
    class Opened(ImageFile.ImageFile):
        format = "HEIF"

        def _open(self):
            self._size, self._mode = (40, 20), "RGB"
            self.tile = []

        def load(self):
            self.im = Image.new("RGB", (40, 20), "red").im
            return super().load()

    package = ModuleType("pillow_heif")
    package.register_heif_opener = lambda: Image.register_open("HEIF", Opened, lambda head: head[4:12] == b"ftypheic")
    path = tmp_path / "photo.jpg"
    path.write_bytes(HEIC)
    assert missing_plugin(path).package == "pillow-heif" and not is_image(path)
    with pytest.raises(ImageError, match="photo.jpg: is HEIC, which is read after `pip install pillow-heif`"):
        load_image(path)

    monkeypatch.setitem(sys.modules, "pillow_heif", package)
    image_formats._is_ready.cache_clear()

    assert missing_plugin(path) is None and is_image(path)
    assert load_image(path).getpixel((0, 0)) == (255, 0, 0)
    monkeypatch.delitem(Image.OPEN, "HEIF")


@pytest.mark.parametrize(("module", "ending"), [("pillow_heif", "heic"), ("PIL", "avif"), ("pillow_jxl", "jxl")])
def test_the_packages_that_are_named_read_what_they_are_named_for(tmp_path, module, ending):
    pytest.importorskip(module)
    path = tmp_path / "photo.png"
    needed = next(plugin for plugin in PLUGINS if f".{ending}" in plugin.extensions)
    if not needed.is_ready:
        pytest.skip(f"{needed.package} is not installed")
    Image.new("RGB", (64, 48), "red").save(tmp_path / f"photo.{ending}")
    (tmp_path / f"photo.{ending}").rename(path)

    assert is_image(path) and missing_plugin(path) is None
    assert np.abs(np.asarray(load_image(path), int) - (255, 0, 0)).max() < 40


def test_what_is_no_image_is_none(tmp_path):
    for number, content in enumerate([b"", b"a photo", b"%!PS-Adobe-3.0 EPSF-3.0", b"\x28\0\0\0" + bytes(60), b"P6"]):
        (tmp_path / f"{number}").write_bytes(content)
        assert not is_image(tmp_path / f"{number}")
    Image.new("RGB", (16, 16)).save(tmp_path / "a", format="EPS")
    Image.new("RGB", (16, 16)).save(tmp_path / "b", format="PDF")
    assert not is_image(tmp_path / "a") and not is_image(tmp_path / "b") and not is_image(tmp_path / "nowhere")


def test_a_tga_is_known_by_its_end_or_its_name(tmp_path):
    Image.new("RGB", (16, 16), "red").save(tmp_path / "a.tga")
    whole = (tmp_path / "a.tga").read_bytes()
    (tmp_path / "b").write_bytes(whole)
    (tmp_path / "c").write_bytes(whole[:-26])

    assert whole.endswith(b"TRUEVISION-XFILE.\0")
    assert [is_image(tmp_path / name) for name in ("a.tga", "b", "c")] == [True, True, False]


def icon_around(data: bytes) -> bytes:
    return struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(data), 22) + data


def huge_png() -> bytes:
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 13_000, 13_000, 8, 6, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )


def huge_bitmap() -> bytes:
    return struct.pack("<IiiHHIIiiII", 40, 12_000, 24_000, 1, 32, 0, 0, 0, 0, 0, 0) + bytes(100)


@pytest.mark.parametrize("inside", [huge_png, huge_bitmap])
def test_an_image_inside_an_icon_is_bounded_as_well(tmp_path, inside):
    (tmp_path / "a.ico").write_bytes(icon_around(inside()))
    before = Image.MAX_IMAGE_PIXELS

    with pytest.raises(ImageError, match="a.ico: has .* more than the limit of 128 million"):
        load_image(tmp_path / "a.ico")
    assert Image.MAX_IMAGE_PIXELS == before
