"""Curves stand together in frames: parts of the schedule, images, and what begins alike."""

import re

import pytest

from helpers.paths import ROOT
from textual_inversion.reporting.curve_groups import BANDS, IMAGES, Place, grouped, place_of
from textual_inversion.reporting.plots import Series, plot
from textual_inversion.training import fixed_set

REPORTING = ROOT / "textual_inversion/reporting"


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("eval/fixed_set_loss", Place("eval/fixed_set_loss")),
        ("eval/fixed_set_loss_half_noise", Place(BANDS, "half_noise", is_key=True)),
        ("eval/image_loss_0", Place(IMAGES, "1")),
        ("eval/image_loss_12", Place(IMAGES, "13")),
        ("eval/image_loss_of_a_stranger", Place("eval/image_loss_of_a_stranger")),
        ("rows/norm/<w>/text_encoder", Place("rows/norm", "<w>/text_encoder")),
        ("loss", Place("loss")),
    ],
)
def test_the_place_of_a_curve(name, place):
    assert place_of(name) == place


def test_frames_that_say_most_stand_first_and_their_curves_in_their_order():
    names = ["zz", "train/loss", *(f"eval/fixed_set_loss_{band}" for band in fixed_set.BANDS), "eval/fixed_set_loss",
             "eval/image_loss_1", "eval/image_loss_0", "eval/image_loss_10"]  # fmt: skip

    found = grouped({name: [(0, 1.0), (9, 0.5)] for name in names})

    assert list(found) == ["eval/fixed_set_loss", BANDS, IMAGES, "train/loss", "zz"]
    assert [place.label for place, _ in found[BANDS]] == list(fixed_set.BANDS)
    assert [place.label for place, _ in found[IMAGES]] == ["1", "2", "11"]


def test_of_many_images_those_are_shown_whose_loss_fell_least():
    curves = {f"eval/image_loss_{i}": [(0, 1.0), (9, 1.0 - 0.01 * i)] for i in range(48)}

    assert [place.label for place, _ in grouped(curves)[IMAGES]] == [str(i) for i in range(1, 9)]
    assert len(grouped({"eval/image_loss_0": [(0, 0.0)], "eval/image_loss_1": [(0, 1.0)]})[IMAGES]) == 2


def test_a_label_that_pages_translate_has_its_key_and_another_has_none():
    both = [Series("little_noise", [(0, 1.0)], is_key=True), Series("<w>", [(0, 2.0)])]

    drawn = plot(both)

    assert ">little_noise</text>" in drawn and drawn.count("data-text=") == 1 and "&lt;w&gt;</text>" in drawn
    assert 'data-text="little_noise"' in drawn


@pytest.mark.parametrize("script", ["report.js", "comparison.js"])
def test_every_curve_that_a_run_writes_has_its_name_in_both_languages(script):
    text = (REPORTING / script).read_text(encoding="utf-8")
    tags = {"train/loss", "train/learning_rate", "train/estimated_distance", "samples/image_similarity"}
    bands = {f"eval/fixed_set_loss_{band}" for band in fixed_set.BANDS}
    own = {BANDS, IMAGES} if script == "report.js" else bands

    for name in tags | own | {"eval/fixed_set_loss"}:
        shown = re.findall(rf'"{name}": "([^"]+)"', text)
        assert sorted(one.isascii() for one in shown) == [False, True], name
