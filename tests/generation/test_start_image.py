"""Start images and masks: which are found, what is said of them, what is refused; all before a model is loaded."""

import numpy as np
import pytest
from PIL import Image

from textual_inversion.generation.start_image import StartImage, start_images
from textual_inversion.system import user_files
from textual_inversion.system.errors import ImageError, SettingsError


def noise(path, size=(40, 24), seed=0) -> str:
    shape = (size[1], size[0], 3)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)).save(path)
    return str(path)


def quiet(line: str) -> None:
    raise AssertionError(line)


def test_without_an_image_there_is_none():
    assert start_images(None, None, None, quiet) == [None]


@pytest.mark.parametrize(("strengths", "mask", "flag"), [((0.5,), None, "--strength"), (None, "m.png", "--mask_image")])
def test_what_has_no_effect_without_an_image_is_refused(strengths, mask, flag):
    with pytest.raises(SettingsError, match=f"^{flag} has no effect without an image to start from; add --image FILE"):
        start_images(None, strengths, mask, quiet)


def test_each_image_of_a_folder_with_each_strength(tmp_path):
    paths = [noise(tmp_path / f"{i}.png", seed=i, size=(40, 24 + 8 * i)) for i in (2, 10)]

    found = start_images(str(tmp_path), (0.3, 0.9), None, quiet)

    assert [(one.path, one.strength, one.size) for one in found] == [
        (path, strength, size)
        for path, size in zip(paths, [(40, 40), (104, 40)], strict=True)
        for strength in (0.3, 0.9)
    ]
    assert found[0].sha256 == user_files.sha256(paths[0], user_files.IMAGE) and found[0].mask is None
    assert start_images(paths[0], None, None, quiet)[0].strength == 0.8
    assert found[0].facts == {"image": paths[0], "image_sha256": found[0].sha256, "strength": 0.3}


def test_a_photo_is_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 24), "red").save(tmp_path / "a.jpg", exif=exif)
    said = []

    (found,) = start_images(str(tmp_path / "a.jpg"), None, None, said.append)

    assert found.size == (40, 24) and found.load().size == (24, 40)
    assert said == [f"{tmp_path / 'a.jpg'}: turned upright by its EXIF orientation"]


def test_a_mask_is_scaled_to_its_image_and_that_is_said(tmp_path):
    image, said = noise(tmp_path / "a.png"), []
    mask = np.zeros((12, 10), np.uint8)
    mask[:, 5:] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")

    (found,) = start_images(image, (1.0,), str(tmp_path / "m.png"), said.append)

    assert said == [f"{tmp_path / 'm.png'}: has 10x12 pixels and is scaled to the size of its image, 40x24"]
    array = np.asarray(found.load_mask())
    assert array.shape == (24, 40) and (array[:, :16] == 0).all() and (array[:, 24:] == 255).all()
    assert found.facts["mask_image"] == str(tmp_path / "m.png") and len(found.facts["mask_sha256"]) == 64


def test_one_mask_for_a_folder_or_one_each(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    for i in (1, 2):
        noise(tmp_path / f"images/{i}.png", seed=i)
        Image.new("L", (40, 24), 100 * i).save(tmp_path / f"masks/{i}.png")
    folder, masks = str(tmp_path / "images"), tmp_path / "masks"

    each = start_images(folder, None, str(masks), quiet)
    same = start_images(folder, None, str(masks / "2.png"), quiet)

    assert [one.mask for one in each] == [str(masks / "1.png"), str(masks / "2.png")]
    assert [one.mask for one in same] == [str(masks / "2.png")] * 2
    (masks / "1.png").unlink()
    with pytest.raises(ImageError, match=r"has no mask for .*1.png; add 1.png, white is drawn anew"):
        start_images(folder, None, str(masks), quiet)


def test_transparent_parts_of_a_mask_are_black(tmp_path):
    mask = Image.new("RGBA", (40, 24), "white")
    mask.putalpha(Image.new("L", (40, 24), 0))
    mask.paste((255, 255, 255, 255), (0, 0, 20, 24))
    mask.save(tmp_path / "m.png")

    (found,) = start_images(noise(tmp_path / "a.png"), None, str(tmp_path / "m.png"), lambda line: None)

    array = np.asarray(found.load_mask())
    assert (array[:, :20] == 255).all() and (array[:, 20:] == 0).all()


def test_what_cannot_be_used_is_refused_by_name(tmp_path):
    image = noise(tmp_path / "a.png")
    Image.new("L", (40, 24), 0).save(tmp_path / "black.png")
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty").mkdir()

    for arguments, message in [
        ((str(tmp_path / "text.png"), None, None), "text.png: is not an image that can be read"),
        ((str(tmp_path / "gone.png"), None, None), "gone.png: cannot be read"),
        ((str(tmp_path / "empty"), None, None), "empty"),
        (
            (image, None, str(tmp_path / "black.png")),
            "black.png: is black everywhere, so nothing would be drawn; white",
        ),
        ((image, None, str(tmp_path / "text.png")), "text.png: is not an image that can be read"),
    ]:
        with pytest.raises(ImageError, match=message):
            start_images(*arguments, lambda line: None)


def test_a_file_that_changes_meanwhile_is_refused(tmp_path):
    (found,) = start_images(noise(tmp_path / "a.png"), None, None, quiet)
    noise(tmp_path / "a.png", seed=1)

    with pytest.raises(ImageError, match="a.png: was changed while images were made from it"):
        found.load()


@pytest.mark.parametrize(
    ("strength", "steps", "taken"), [(1.0, 7, 7), (0.5, 7, 3), (0.8, 50, 40), (0.1, 10, 1), (0.09, 10, 0)]
)
def test_the_share_of_the_steps(strength, steps, taken):
    start = StartImage("a", "", (8, 8), strength)

    assert start.denoising_steps(steps) == taken
    if taken:
        start.check_steps(steps)
    else:
        with pytest.raises(SettingsError, match="^--strength 0.09 of 10 denoising steps is less than one step; raise"):
            start.check_steps(steps)
