"""A word that copies its training images is told from one that draws them anew, by value and on the demo's images."""

import numpy as np
import pytest
from PIL import Image

from demo.shipped import CONCEPTS, fresh_drawings
from helpers.paths import ROOT
from textual_inversion.evaluation.clip import ClipScorer
from textual_inversion.evaluation.copies import copies_among, pixel_features, sentence


def at(*angles):
    """Features of unit norm in a plane, at angles in degrees."""
    radians = np.radians(angles)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def test_the_nearest_image_and_the_share_of_copies_by_value():
    training = at(0, 30, 90)  # the nearest two are 30 degrees apart: distance 0.134, a tenth of it is at 9.4 degrees
    found = copies_among([at(1, 29, 80, 45)], [training], ["a", "b", "c"])
    assert found["nearest"] == ["a", "b", "c", "b"]
    assert found["likeness"] == [0.9998, 0.9998, 0.9848, 0.9659]
    assert found["among_training"] == 0.866
    assert found["share"] == 0.5 and found["repeats"]
    assert not copies_among([at(15, 45, 60, 75)], [training])["repeats"]


def test_both_measures_have_to_agree():
    near, far, training = at(0, 30), at(15, 15), at(0, 30)
    assert copies_among([near, near], [training, training])["repeats"]
    assert not copies_among([near, far], [training, training])["repeats"]


def test_an_image_that_is_there_twice_does_not_hide_copies():
    assert copies_among([at(0, 30)], [at(0, 0, 30)])["repeats"]


@pytest.mark.parametrize("training", [at(0), at(5, 5, 5)])
def test_without_two_different_images_nothing_is_said(training):
    assert copies_among([at(0)], [training]) is None and sentence(None) is None


@pytest.mark.parametrize("folder", CONCEPTS)
def test_copies_of_the_demos_images_are_found_and_fresh_drawings_are_none(folder):
    scorer, rng = ClipScorer(ROOT / "demo/model/clip"), np.random.default_rng(0)
    training = [Image.open(p).convert("RGB").resize((64, 64)) for p in sorted((ROOT / folder).glob("*.png"))]
    noisy = [np.asarray(image) + rng.normal(0, 6, (64, 64, 3)) for image in training]
    copied = [Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)) for pixels in noisy]

    def look(images):
        drawn = (scorer.image_features(images), pixel_features(images))
        return copies_among(drawn, (scorer.image_features(training), pixel_features(training)))

    assert look(copied)["share"] == 1 and sentence(look(copied)).startswith("this word repeats its pictures: 100%")
    fresh = look(fresh_drawings(str(ROOT / folder), 64, 24))
    assert not fresh["repeats"] and sentence(fresh) is None, fresh["share"]
