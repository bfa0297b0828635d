"""What is found among whole folders of the demo's images, in the space of the demo's own CLIP model; `images.png`."""

import numpy as np
import pytest
from PIL import Image

from demo.drawing import draw
from demo.specs import HELD_OUT_STYLE, HELD_OUT_TOYS, PHOTO, SCENES
from helpers.paths import ROOT
from textual_inversion.data.image_checks import BACKGROUND, BORDERS, DUPLICATE, ODD
from textual_inversion.data.read_images import read_images
from textual_inversion.evaluation.clip import ClipScorer
from textual_inversion.settings.concept import Concept
from textual_inversion.settings.train_data import ImageSettings, PromptSettings
from textual_inversion.training.first_look import SHEET_NAME, FirstLook

CAT, RABBIT = HELD_OUT_TOYS["cat"], HELD_OUT_TOYS["rabbit"]
SIDE = 64


@pytest.fixture(scope="module")
def scorer():
    return ClipScorer(ROOT / "demo/model/clip")


def cats(scenes, side=160):
    """The demo's cat in these scenes, each time a little elsewhere."""
    return {f"cat-{i}.png": draw(CAT, scene, PHOTO, side, seed=i) for i, scene in enumerate(scenes)}


def look_at(folder, images, learnable_property="object", masks=None, side=SIDE):
    folder.mkdir()
    for name, image in images.items():
        image.save(folder / name)
    concept = Concept("<w>", learnable_property=learnable_property, image_folder=str(folder))
    settings = ImageSettings(mask_dir=(str(masks),) if masks else None)
    read = read_images([concept], settings, PromptSettings(), "en", 1, lambda line: None, shows_progress=False)
    return FirstLook(read, [concept], settings, (side, side), 8)


def test_nothing_is_found_among_the_demos_cats(tmp_path, scorer):
    assert look_at(tmp_path / "images", cats(SCENES)).findings(scorer) == {}


@pytest.mark.parametrize(
    "other",
    [
        lambda: draw(RABBIT, "on the grass", PHOTO, 160, seed=9),
        lambda: Image.open(ROOT / "demo/style_images/style-3.png").convert("RGB"),
    ],
    ids=["a rabbit", "a drawing in another style"],
)
def test_an_image_of_something_else_among_them_is_named_and_no_other(tmp_path, scorer, other):
    found = look_at(tmp_path / "images", cats(SCENES) | {"other.png": other()}).findings(scorer)

    assert found[ODD] == ["other.png looks unlike the others; does it show the same thing?"]
    # The style's own frame is a bar at two edges.
    assert set(found) <= {ODD, BORDERS} and found.get(BORDERS, found[ODD])[0].startswith("other.png ")


def test_one_scene_that_all_share_is_said_and_six_scenes_are_not(tmp_path, scorer):
    one = look_at(tmp_path / "one", cats(["on the beach"] * 5)).findings(scorer)
    masks = tmp_path / "masks"
    masks.mkdir()
    for name in cats(["on the beach"] * 5):
        Image.new("L", (160, 160), 255).save(masks / name)

    (line,) = one[BACKGROUND]
    assert line.startswith("all 5 images have much the same background, which is learned too; ")
    assert BACKGROUND not in look_at(tmp_path / "six", cats(SCENES)).findings(scorer)
    assert BACKGROUND not in look_at(tmp_path / "masked", cats(["on the beach"] * 5), masks=masks).findings(scorer)


def test_an_image_that_is_there_twice_is_named_and_the_same_toy_in_another_scene_is_not(tmp_path, scorer):
    images = cats(SCENES)

    found = look_at(tmp_path / "images", images | {"copy.png": images["cat-2.png"].resize((90, 90))}).findings(scorer)

    assert found[DUPLICATE] == ["copy.png is nearly the same as cat-2.png; leave one out"]


def test_a_style_on_different_things_has_no_odd_one(tmp_path, scorer):
    images = {f"{i}.png": draw(toy, scene, HELD_OUT_STYLE, 160, seed=i) for i, (toy, scene) in
              enumerate(zip([CAT, RABBIT, CAT, CAT], SCENES, strict=False))}  # fmt: skip

    assert look_at(tmp_path / "images", images, "style").findings(scorer) == {}


def test_the_sheet_shows_each_image_as_the_model_sees_it_and_covers_what_its_mask_leaves_out(tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    mask = Image.new("L", (160, 160), 0)
    mask.paste(255, (0, 0, 80, 160))
    mask.save(masks / "a.png")
    images = {"a.png": Image.new("RGB", (160, 160), (0, 200, 0))}

    masked, plain = look_at(tmp_path / "masked", images, masks=masks), look_at(tmp_path / "plain", images)

    sheets = []
    for name, look in (("m", masked), ("p", plain)):
        (tmp_path / name).mkdir()
        assert look.save_sheet(tmp_path / name) == tmp_path / name / SHEET_NAME
        sheets.append(np.asarray(Image.open(tmp_path / name / SHEET_NAME).convert("RGB")).reshape(-1, 3))
    learned, covered = ((np.abs(sheet.astype(int) - colour).max(axis=1) < 8) for sheet, colour in
                        ((sheets[0], (0, 200, 0)), (sheets[0], (120, 98, 36))))  # fmt: skip
    assert learned.sum() == pytest.approx(covered.sum(), rel=0.1) and covered.sum() > SIDE * SIDE / 4
    assert not (np.abs(sheets[1].astype(int) - (120, 98, 36)).max(axis=1) < 8).any()
    assert (np.abs(sheets[1].astype(int) - (0, 200, 0)).max(axis=1) < 8).sum() > 1.8 * learned.sum()
