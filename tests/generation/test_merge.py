"""Folders of one grid become one folder."""

import pytest
from PIL import Image

from helpers.tiny_models import tree
from textual_inversion.generation.gallery import Gallery, PlannedImages
from textual_inversion.generation.manifest import recorded_runs
from textual_inversion.generation.merge import merge_folders
from textual_inversion.system.errors import OutputError, SettingsError
from textual_inversion.system.process_share import ProcessShare

KEYS = ["k0", "k1", "k2", "k3"]


def draw(folder, positions, keys=KEYS, is_grid=True):
    """A folder in which some images of a plan were drawn."""
    folder.mkdir(exist_ok=True)
    gallery = Gallery(folder, {"base_model": "m", "embeds": []})
    done = gallery.begin(PlannedImages(keys, range(len(keys)), is_grid), ProcessShare(0, 2, "start"))
    for position in set(positions) - done:
        facts = dict(
            prompt="p", seed=position, guidance_scale=1.0, num_inference_steps=1, scheduler="D", base_model="m"
        )
        gallery.save(position, Image.new("RGB", (8, 8), (position, 0, 0)), facts)
    state = gallery.finish()
    gallery.close()
    return state


def images(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*-seed*.png")}


def test_images_and_records_of_one_grid_come_together(tmp_path):
    draw(tmp_path / "a", [0, 2])
    draw(tmp_path / "b", [9], keys=["x"] * 10, is_grid=False)  # whose numbers come first
    draw(tmp_path / "b", [1, 2, 3])
    draw(tmp_path / "whole", range(4))
    before = tree(tmp_path / "a"), tree(tmp_path / "b")
    (tmp_path / "out").mkdir()

    copied, state = merge_folders([tmp_path / "a", tmp_path / "b"], tmp_path / "out")

    assert copied == 4 and state.is_complete and [image["seed"] for image in state.images] == [0, 1, 2, 3]
    assert images(tmp_path / "out") == images(tmp_path / "whole")
    (run,) = recorded_runs(tmp_path / "out")
    assert [image["file"] for image in run["images"]] == sorted(images(tmp_path / "out"))
    assert (tree(tmp_path / "a"), tree(tmp_path / "b")) == before
    assert draw(tmp_path / "out", []).is_complete  # the grid's own command finds nothing left to draw
    assert merge_folders([tmp_path / "a"], tmp_path / "out")[0] == 0


def test_a_part_can_be_merged_and_the_rest_later_or_drawn_there(tmp_path):
    draw(tmp_path / "a", [0, 2])
    draw(tmp_path / "b", [1, 3])

    copied, state = merge_folders([tmp_path / "b"], tmp_path / "a")
    assert copied == 2 and state.is_complete

    (tmp_path / "out").mkdir()
    assert not merge_folders([tmp_path / "b"], tmp_path / "out")[1].is_complete
    assert draw(tmp_path / "out", range(4)).is_complete
    assert images(tmp_path / "out") == images(tmp_path / "a")


def test_an_image_that_is_not_whole_is_not_copied(tmp_path):
    draw(tmp_path / "a", [0, 1])
    (tmp_path / "a" / "0001-seed1.png").write_bytes(b"")
    (tmp_path / "out").mkdir()

    copied, state = merge_folders([tmp_path / "a"], tmp_path / "out")

    assert copied == 1 and list(images(tmp_path / "out")) == ["0000-seed0.png"] and state.total == 4


def test_other_grids_and_folders_without_one_are_refused(tmp_path):
    draw(tmp_path / "a", [0])
    draw(tmp_path / "other", [0], keys=["y", "z"])
    draw(tmp_path / "plain", [0], is_grid=False)
    (tmp_path / "empty").mkdir()

    for folder, message in (
        ("other", "other holds another grid than"),
        ("plain", "plain holds no grid"),
        ("empty", "empty holds no grid"),
        ("nowhere", "there is no folder"),
    ):
        with pytest.raises(SettingsError, match=message):
            merge_folders([tmp_path / "a", tmp_path / folder], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    before = tree(tmp_path / "other")
    with pytest.raises(OutputError, match="holds another grid"):
        merge_folders([tmp_path / "a"], tmp_path / "other")
    assert tree(tmp_path / "other") == before


def test_a_file_of_somebody_else_is_not_overwritten(tmp_path):
    draw(tmp_path / "a", [0, 1])
    draw(tmp_path / "out", [0])
    Image.new("RGB", (3, 3)).save(tmp_path / "out" / "0001-seed1.png")
    before = tree(tmp_path / "out")

    with pytest.raises(OutputError, match="0001-seed1.png has the number of an image of this run"):
        merge_folders([tmp_path / "a"], tmp_path / "out")

    assert tree(tmp_path / "out") == before
