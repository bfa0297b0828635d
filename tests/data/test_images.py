"""Images from a user's folder: what is found, what is repaired and said, what is refused."""

import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw, ImageFile

from textual_inversion.data import image_colours, images
from textual_inversion.data.image_folder import find_images
from textual_inversion.settings.choices import INTERPOLATIONS
from textual_inversion.system.errors import ImageError, SettingsError

RED, BLUE = (255, 0, 0), (0, 0, 255)


def two_halves(width=40, height=20, mode="RGB", left="red", right="blue"):
    image = Image.new(mode, (width, height), left)
    image.paste(right, (width // 2, 0, width, height))
    return image


def load_with_notes(path):
    notes = []
    return images.load_image(path, notes.append), notes


def near(pixel, color, tolerance=6):
    return all(abs(one - other) <= tolerance for one, other in zip(pixel, color, strict=True))


# ---------------------------------------------------------------------------------------------- repaired and said


@pytest.mark.parametrize("extension", ["png", "jpg", "JPEG", "bmp", "webp", "tif", "TIFF", "gif"])
def test_every_format_is_read_as_rgb(tmp_path, extension):
    path = tmp_path / f"猫 picture.{extension}"
    two_halves().save(path)

    image, notes = load_with_notes(path)

    assert (image.mode, image.size, notes) == ("RGB", (40, 20), [])
    assert near(image.getpixel((5, 10)), RED, 40) and near(image.getpixel((35, 10)), BLUE, 40)


def test_content_decides_not_the_name(tmp_path):
    two_halves().save(tmp_path / "a.png", format="JPEG")
    assert images.load_image(tmp_path / "a.png").size == (40, 20)


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_exif_orientation_is_undone(tmp_path, orientation, extension):
    upright = Image.new("RGB", (48, 32), "red")
    ImageDraw.Draw(upright).rectangle((0, 0, 15, 15), fill="blue")  # tells all eight orientations apart
    # The stored image is the one that EXIF's turn brings back upright.
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if extension == "webp" else {"quality": 95} if extension == "jpg" else {}
    upright.transpose(Image.Transpose(back)).save(tmp_path / f"a.{extension}", exif=exif, **options)

    image, notes = load_with_notes(tmp_path / f"a.{extension}")

    assert np.abs(np.asarray(image, float) - np.asarray(upright, float)).mean() < 6
    assert extension == "tiff" or (len(notes) == 1 and "upright" in notes[0])  # Pillow turns a TIFF by itself


def test_damaged_exif_does_not_stop_an_image(tmp_path):
    two_halves().save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert images.load_image(tmp_path / "a.jpg").size == (40, 20)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_on_white(tmp_path, mode):
    image = Image.new("RGBA", (20, 20), (255, 0, 0, 255)).convert(mode)
    image.putalpha(Image.new("L", (20, 20), 255))
    image.paste((0, 0, 0, 0)[: len(mode)], (10, 0, 20, 20))
    image.save(tmp_path / "a.png")

    loaded, notes = load_with_notes(tmp_path / "a.png")

    assert loaded.getpixel((15, 5)) == (255, 255, 255)
    assert near(loaded.getpixel((5, 5)), RED if mode == "RGBA" else (76, 76, 76))
    assert len(notes) == 1 and "white" in notes[0]


def test_an_opaque_alpha_channel_is_not_worth_a_note(tmp_path):
    two_halves().convert("RGBA").save(tmp_path / "a.png")
    loaded, notes = load_with_notes(tmp_path / "a.png")
    assert loaded.getpixel((0, 0)) == RED and notes == []


def test_opacity_is_read_upright_and_full_where_there_is_none(tmp_path):
    image = two_halves().convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 40, 5))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image.save(tmp_path / "a.png", exif=exif)
    two_halves().save(tmp_path / "b.jpg")

    alpha, opaque = images.load_alpha(tmp_path / "a.png"), images.load_alpha(tmp_path / "b.jpg")

    assert (alpha.mode, alpha.getpixel((5, 2)), alpha.getpixel((5, 17))) == ("L", 255, 0)
    assert (opaque.size, opaque.getextrema()) == ((40, 20), (255, 255))
    with pytest.raises(ImageError, match="nowhere.png"):
        images.load_alpha(tmp_path / "nowhere.png")


def test_a_palette_with_a_transparent_entry(tmp_path):
    image = two_halves().quantize(4)
    image.save(tmp_path / "a.png", transparency=image.getpixel((0, 0)))

    loaded, notes = load_with_notes(tmp_path / "a.png")

    assert loaded.getpixel((0, 0)) == (255, 255, 255)
    assert near(loaded.getpixel((39, 0)), BLUE) and "white" in notes[0]


@pytest.mark.parametrize("extension", ["jpg", "tif"])
def test_cmyk_is_converted(tmp_path, extension):
    two_halves().convert("CMYK").save(tmp_path / f"a.{extension}")
    loaded, notes = load_with_notes(tmp_path / f"a.{extension}")
    assert near(loaded.getpixel((5, 10)), RED, 40) and near(loaded.getpixel((35, 10)), BLUE, 40)
    assert len(notes) == 1 and "CMYK" in notes[0]


@pytest.mark.parametrize(
    "dtype, white, extension",
    [
        (np.uint16, 65535, "png"),
        (np.uint16, 65535, "tiff"),
        (np.int32, 65535, "tiff"),
        (np.int32, 255, "tiff"),
        (np.float32, 1.0, "tiff"),
        (np.float32, 255.0, "tiff"),
    ],
)
def test_deep_images_are_scaled_to_eight_bits(tmp_path, dtype, white, extension):
    values = np.repeat(np.linspace(0, white, 16).astype(dtype)[None], 16, axis=0)
    Image.fromarray(values).save(tmp_path / f"a.{extension}")

    loaded, notes = load_with_notes(tmp_path / f"a.{extension}")

    assert np.abs(np.asarray(loaded)[0, :, 0] - np.linspace(0, 255, 16)).max() <= 1
    assert len(notes) == 1 and "8 bits" in notes[0]


def test_float_values_of_any_range(tmp_path):
    values = np.linspace(-3, 5, 256, dtype=np.float32).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "a.tiff")
    loaded = np.asarray(images.load_image(tmp_path / "a.tiff"))
    assert loaded[0, 0].tolist() == [0, 0, 0] and loaded[15, 15].tolist() == [255, 255, 255]


@pytest.mark.parametrize("extension", ["gif", "png", "webp", "tiff"])
def test_the_first_frame_of_an_animation_is_used(tmp_path, extension):
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "lime", "blue")]
    frames[0].save(tmp_path / f"a.{extension}", save_all=True, append_images=frames[1:])

    loaded, notes = load_with_notes(tmp_path / f"a.{extension}")

    assert near(loaded.getpixel((8, 8)), RED) and len(notes) == 1 and "first" in notes[0]


def test_the_second_image_in_a_phones_jpeg_is_no_animation(tmp_path):
    two_halves().save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[two_halves()])
    loaded, notes = load_with_notes(tmp_path / "a.jpg")
    assert loaded.size == (40, 20) and notes == []


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_grey_and_palette_images(tmp_path, mode):
    two_halves(left="white", right="black").convert(mode).save(tmp_path / "a.png")
    loaded = images.load_image(tmp_path / "a.png")
    assert loaded.getpixel((0, 0)) == (255, 255, 255) and loaded.getpixel((39, 0)) == (0, 0, 0)


def swapped_profile():
    """A real profile whose red and green primaries have changed places, under a name of its own."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for one, other in ((b"rXYZ", b"tXYZ"), (b"gXYZ", b"rXYZ"), (b"tXYZ", b"gXYZ")):
        profile = profile.replace(one, other)
    return profile.replace("sRGB".encode("utf-16-be"), "Swap".encode("utf-16-be"))


def test_colours_follow_the_embedded_profile(tmp_path):
    Image.new("RGB", (16, 16), "red").save(tmp_path / "a.png", icc_profile=swapped_profile())
    loaded, notes = load_with_notes(tmp_path / "a.png")
    assert near(loaded.getpixel((8, 8)), (0, 255, 0)) and "Swap" in notes[0]


PLAIN_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        (PLAIN_PROFILE, []),
        (b"not a profile", ["its colour profile cannot be used; the colours are taken for sRGB"]),
        (
            PLAIN_PROFILE + bytes(2_000_000),
            ["its colour profile is larger than 1 MiB and is left out; the colours are taken for sRGB"],
        ),
    ],
)
def test_a_plain_profile_changes_nothing_and_one_that_is_not_used_is_told(tmp_path, profile, said):
    two_halves().save(tmp_path / "a.png", icc_profile=profile)
    loaded, notes = load_with_notes(tmp_path / "a.png")
    assert loaded.getpixel((0, 0)) == RED
    assert notes == [f"{tmp_path / 'a.png'}: {line}" for line in said]


@pytest.mark.parametrize("most", [200, 65535])
def test_sixteen_bits_of_a_ppm_have_a_fixed_range(tmp_path, most):
    values = np.linspace(0, most, 256).astype(">u2").reshape(16, 16)
    (tmp_path / "a.pgm").write_bytes(b"P5 16 16 65535\n" + values.tobytes())
    loaded, notes = load_with_notes(tmp_path / "a.pgm")
    assert np.asarray(loaded).max() == round(most / 65535 * 255) and "16-bit" in notes[0]


# --------------------------------------------------------------------------------------------------------- refused


def png_of_declared_size(width, height):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )


def write_truncated_jpeg(path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, format="JPEG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def write_eps(path):
    Image.new("RGB", (16, 16)).save(path, format="EPS")


def write_transparent(path):
    Image.new("RGBA", (16, 16), (255, 0, 0, 0)).save(path)


@pytest.mark.parametrize(
    "write, reason",
    [
        (lambda path: None, "No such file"),
        (lambda path: path.mkdir(), "it is a folder, not a regular file"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_text("a photo of a cat"), "not an image"),
        (lambda path: path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0"), "HEIC"),
        (write_eps, "not an image"),
        (write_truncated_jpeg, "damaged or incomplete"),
        (lambda path: path.write_bytes(png_of_declared_size(64, 64)), "damaged or incomplete"),
        (lambda path: path.write_bytes(png_of_declared_size(12_000, 12_000)), "12000x12000"),
        (lambda path: path.write_bytes(png_of_declared_size(20_000, 20_000)), "128 million"),
        (lambda path: Image.new("RGB", (1, 1)).save(path), "only 1x1 pixels"),
        (lambda path: Image.new("RGB", (500, 7)).save(path), "only 500x7 pixels"),
        (write_transparent, "transparent everywhere"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(tmp_path, write, reason):
    path = tmp_path / "图.png"
    write(path)
    with pytest.raises(ImageError) as caught:
        images.load_image(path)
    assert str(path) in str(caught.value) and reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_colours_without_a_way_to_rgb_are_refused(tmp_path):
    with pytest.raises(ImageError, match=r"colours \(La\).*save it as RGB PNG"):
        image_colours.to_rgb(Image.new("La", (16, 16)), 1, tmp_path / "a.tiff", print)


def test_a_huge_image_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(png_of_declared_size(20_000, 6_500))
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(ImageError, match="20000x6500"):
        images.load_image(tmp_path / "a.png")


@pytest.mark.filterwarnings("error")
def test_a_large_phone_photo_passes_without_pillows_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # stands for its 89 million
    two_halves().save(tmp_path / "a.png")  # 800 pixels: Pillow warns
    assert images.load_image(tmp_path / "a.png").size == (40, 20)


def test_many_threads_read_side_by_side(tmp_path):
    for number in range(40):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(tmp_path / f"{number}.png")
    with ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(images.load_image, find_images(tmp_path)))
    assert [image.getpixel((0, 0))[0] for image in loaded] == list(range(40))


@pytest.mark.filterwarnings("ignore:Tag data")
def test_damage_at_any_place_is_an_image_error_or_an_image(tmp_path):
    random = np.random.default_rng(0)
    outcomes = {"read": 0, "refused": 0}
    for extension in ("png", "jpg", "gif", "webp", "tiff", "bmp"):
        path = tmp_path / f"a.{extension}"
        two_halves().save(path)
        whole = path.read_bytes()
        for turn in range(60):
            damaged = np.frombuffer(whole, np.uint8).copy()
            damaged[random.integers(0, len(damaged), 6)] = random.integers(0, 256, 6)
            end = random.integers(1, len(whole)) if turn % 2 else len(whole)
            path.write_bytes(damaged.tobytes()[:end])
            try:
                assert images.load_image(path).mode == "RGB"
                outcomes["read"] += 1
            except ImageError as error:
                assert str(path) in str(error)
                outcomes["refused"] += 1
    assert outcomes["read"] > 5 and outcomes["refused"] > 100


# ----------------------------------------------------------------------------------------------- the model's form


def test_fit_squashes_the_whole_image_by_default():
    fitted = images.fit(two_halves(80, 20), 16, 32)
    assert fitted.size == (32, 16)
    assert fitted.getpixel((2, 8)) == RED and fitted.getpixel((29, 8)) == BLUE


@pytest.mark.parametrize("size, target, box", [
    ((80, 20), (16, 16), (30, 0, 50, 20)),
    ((20, 80), (16, 16), (0, 30, 20, 50)),
    ((80, 20), (16, 32), (20, 0, 60, 20)),
    ((33, 33), (16, 16), (0, 0, 33, 33)),
    ((100, 1), (64, 8), (49, 0, 50, 1)),
])  # fmt: skip
def test_center_crop_takes_the_largest_centred_rectangle(size, target, box):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))
    height, width = target

    fitted = images.fit(image, height, width, center_crop=True)

    expected = image.crop(box).resize((width, height), Image.Resampling.BILINEAR)
    assert np.array_equal(np.asarray(fitted), np.asarray(expected))


@pytest.mark.parametrize("interpolation", ["linear", "bilinear", "bicubic", "lanczos"])
def test_reducing_uses_every_pixel(interpolation):
    checks = np.indices((256, 256)).sum(0) % 2 * 255  # one pixel black, the next white
    fitted = images.fit(Image.fromarray(checks.astype(np.uint8)).convert("RGB"), 16, 16, interpolation=interpolation)
    assert np.abs(np.asarray(fitted, float)[2:-2, 2:-2] - 127.5).max() < 4


def test_interpolations_differ_and_linear_is_bilinear():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8))
    fitted = {name: images.fit(image, 24, 24, interpolation=name).tobytes() for name in INTERPOLATIONS}
    assert fitted["linear"] == fitted["bilinear"] and len(set(fitted.values())) == 4


def test_an_unknown_interpolation_names_the_known_ones():
    for resize in (images.fit, images.cover):
        with pytest.raises(SettingsError, match="cubic.*bicubic, lanczos"):
            resize(two_halves(), 8, 8, interpolation="cubic")


@pytest.mark.parametrize(
    ("size", "covering"), [((80, 20), (64, 16)), ((20, 80), (32, 128)), ((40, 20), (32, 16)), ((7, 10), (32, 46))]
)
def test_covering_keeps_the_whole_image_and_its_shape(size, covering):
    covered = images.cover(two_halves(*size), 16, 32)

    assert covered.size == covering
    assert near(covered.getpixel((0, 8)), RED) and near(covered.getpixel((covering[0] - 1, 8)), BLUE)


def test_arrays_run_from_minus_one_to_one_and_back_without_loss():
    pixels = np.arange(256, dtype=np.uint8).reshape(8, 32)[..., None] ^ np.array([0, 85, 170], np.uint8)
    array = images.to_array(Image.fromarray(pixels))
    assert array.shape == (3, 8, 32) and array.dtype == np.float32 and array.flags.c_contiguous
    assert (array.min(), array.max()) == (-1.0, 1.0)
    assert array[1, 2, 3] == np.float32(pixels[2, 3, 1] / 127.5 - 1)
    assert np.array_equal(np.asarray(images.from_array(array)), pixels)


def test_from_array_clips_and_blackens_nan():
    array = np.zeros((3, 8, 8), np.float32)
    array[:, 0, 0], array[:, 0, 1], array[:, 0, 2] = 7.0, -7.0, np.nan
    assert np.asarray(images.from_array(array))[0, :3, 0].tolist() == [255, 0, 0]


def test_from_array_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"\[8, 8, 3\]"):
        images.from_array(np.zeros((8, 8, 3)))
