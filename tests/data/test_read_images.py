"""What is found when training images are looked at, before a model is loaded."""

import pytest

import train_textual_inversion
from helpers.training_runs import draw_images, short_run
from textual_inversion.data.read_images import read_images
from textual_inversion.settings.concept import Concept
from textual_inversion.settings.train_data import ImageSettings, PromptSettings
from textual_inversion.system.errors import ImageError


def test_a_mask_that_is_missing_stops_the_run_before_a_model_is_loaded(tmp_path):
    draw_images(tmp_path / "some", count=2)
    argv = short_run(tmp_path, "--mask_dir", str(tmp_path / "some"))
    argv[argv.index("--pretrained_model_name_or_path") + 1] = str(tmp_path / "no-model")

    with pytest.raises(ImageError, match="2.png"):
        train_textual_inversion.main(argv)


def test_images_of_contrast_stand_behind_those_of_their_concept_and_are_not_shown_with_them(tmp_path):
    own, other = draw_images(tmp_path / "own", count=2), draw_images(tmp_path / "other", count=3)
    concepts = [
        Concept("<a>", image_folder=str(own), contrast_folder=str(other)),
        Concept("<b>", image_folder=str(own)),
    ]
    said = []

    read = read_images(concepts, ImageSettings(), PromptSettings(), "en", 5, said.append, shows_progress=False)

    assert [(image.concept, image.is_contrast) for image in read.images] == [
        *[(0, False)] * 2, *[(0, True)] * 3, *[(1, False)] * 2,
    ]  # fmt: skip
    assert len(read.of_concept(0)) == 2 and read.epoch_samples == 7 * 5
    counted = [line for line in said if "image(s)" in line]
    assert [line.partition(" in ")[0] for line in counted] == [
        "2 training image(s) of <a>", "3 image(s) to train away from <a>", "2 training image(s) of <b>",
    ]  # fmt: skip
