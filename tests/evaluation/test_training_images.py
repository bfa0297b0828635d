"""The images that a concept was learned from."""

import dataclasses
from pathlib import Path

import pytest

from textual_inversion.embeddings.files import read_concept_files
from textual_inversion.evaluation.training_images import as_trained, recorded_images
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.paths import ROOT, from_root


def with_record(**settings):
    (file,) = read_concept_files([from_root("demo/learned_embeds.pdparams")])
    return dataclasses.replace(file, path=Path("x.pdparams"), run={"settings": settings} if settings else {})


def test_the_recorded_folder_is_found_if_it_is_there(tmp_path):
    (shipped,) = read_concept_files([from_root("demo/learned_embeds.pdparams")])

    assert recorded_images(shipped, "<cat-toy>") == ROOT / "cat_toy_images"
    assert recorded_images(with_record(train_data_dir=str(tmp_path)), "<cat-toy>") == tmp_path
    with pytest.raises(SettingsError, match="learned from the images in .*gone, which is no folder here"):
        recorded_images(with_record(train_data_dir=str(tmp_path / "gone")), "<cat-toy>")
    with pytest.raises(SettingsError, match="does not say which images it was learned from"):
        recorded_images(with_record(), "<cat-toy>")


def test_images_are_brought_to_the_recorded_shape():
    usual, crop = as_trained({}, 64, 8), as_trained({"settings": {"center_crop": True, "height": 32}}, 64, 8)

    assert (usual.mode, usual.height, usual.width, usual.interpolation) == ("squash", 64, 64, "bilinear")
    assert (crop.mode, crop.height, crop.width) == ("center_crop", 32, 64)
