"""Headers that announce more than any image needs."""

import struct
from io import BytesIO

import pytest
from PIL import Image

from helpers.attacks import inputs
from helpers.image_peaks import peaks
from textual_inversion.data import image_headers, images
from textual_inversion.system.errors import ImageError

COSTLY = [name for name in inputs._large_images() if "megapixel" not in name and "PPM" not in name]
HARMLESS = ("a PNG of a private chunk", "a PNG of EXIF tags on the same bytes", "a PNG of a chunk without an end")


@pytest.mark.slow
@pytest.mark.parametrize("name", COSTLY)
def test_headers_that_ask_for_much_are_refused_in_little_memory(tmp_path, name):
    ending, data = inputs._large_images()[name]
    (tmp_path / f"a{ending}").write_bytes(data())
    body = "try:\n    images.load_image(path)\nexcept ImageError:\n    pass"

    (taken,) = peaks(tmp_path, "path", repr([str(tmp_path / f"a{ending}")]), body, timeout=60)

    assert taken < 60_000_000
    if name not in HARMLESS:
        with pytest.raises(ImageError, match=rf"a{ending}: .*(save it anew|make it smaller|save it as|is damaged)"):
            images.load_image(tmp_path / f"a{ending}")


def jpeg(**more) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (64, 48)).save(buffer, "JPEG", **more)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("more", "several", "coefficients"),
    [({}, False, 1.5), ({"subsampling": 0}, False, 3.0), ({"progressive": True}, True, 1.5),
     ({"progressive": True, "subsampling": 0}, True, 3.0)],
)  # fmt: skip
def test_a_jpegs_header_tells_what_it_keeps(more, several, coefficients):
    found = image_headers.jpeg_header(BytesIO(jpeg(**more)))

    assert (found.has_several_scans, found.coefficients) == (several, coefficients)


def test_one_scan_for_each_component_is_several():
    """As a baseline JPEG may have them, too: libjpeg keeps all coefficients then."""
    whole = jpeg()
    scan = whole.index(b"\xff\xda")
    one = whole[:scan] + b"\xff\xda\0\x08\1\1\0\0\x3f\0" + whole[scan + 14 :]

    assert image_headers.jpeg_header(BytesIO(one)).has_several_scans


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_what_programs_write_is_not_refused(kind):
    exif = Image.Exif()
    exif[0x010E] = "x" * 30_000
    buffer = BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, kind, exif=exif)
    buffer.seek(0)

    image_headers.check(buffer)

    assert buffer.tell() == 0


def test_the_tags_of_a_tiff_are_added_up_once_for_each():
    data = inputs._directory(100, 5_000, 5_000)

    assert image_headers.tags_of_tiff(BytesIO(data)) == 500_000
    with pytest.raises(image_headers.AsksForTooMuch, match="announces 100 MB beside its pixels"):
        image_headers.check(BytesIO(inputs._directory(10_000, 10_000, 10_000)))


@pytest.mark.parametrize(
    "data",
    [b"II*\0", b"MM\0*\0\0\0\x08\xff\xff", b"\xff\xd8\xff", b"GIF89a", b"BM", b"", struct.pack("<4sQ", b"II+\0", 8)],
)
def test_what_ends_early_is_left_to_pillow(data):
    image_headers.check(BytesIO(data))


def test_a_whole_file_in_memory_is_a_small_one(tmp_path):
    path = tmp_path / "a.webp"
    Image.new("RGB", (64, 64)).save(path)
    with open(path, "r+b") as file:
        file.truncate(40 << 20)

    with pytest.raises(ImageError, match="a.webp: is larger than 32 MiB, which only JPEG, PNG and TIFF may be"):
        images.load_image(path)


def test_a_tag_that_is_no_number_is_damage(tmp_path):
    data = bytearray(inputs._tiled(64, 64))
    position = data.index(struct.pack("<HH", 322, 4))
    data[position + 2 : position + 8] = struct.pack("<HL", 2, 4)  # letters
    (tmp_path / "a.tif").write_bytes(data)

    with pytest.raises(ImageError, match="a.tif: (is damaged|is not an image)"):
        images.load_image(tmp_path / "a.tif")
