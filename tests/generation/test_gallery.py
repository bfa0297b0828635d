"""Numbered images, what they say about themselves, the manifest of all runs."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from textual_inversion.generation.gallery import SCANNED, Gallery, label
from textual_inversion.system.errors import OutputError

SETTINGS = {"base_model": "models/sd", "embeds": [{"file": "a.pdparams", "sha256": "00"}]}


def facts(**changes):
    usual = dict(prompt="a <cat-toy>", negative_prompt="", seed=3, guidance_scale=7.5, num_inference_steps=20)
    return {**usual, "scheduler": "DDIMScheduler", "base_model": "models/sd", **changes}


def run(folder, *all_facts):
    gallery = Gallery(folder, SETTINGS)
    gallery.reserve(len(all_facts))
    images = [Image.new("RGB", (16, 8), (40 * i, 0, 0)) for i in range(len(all_facts))]
    paths = [gallery.save(i, image, f) for i, (image, f) in enumerate(zip(images, all_facts, strict=True))]
    gallery.finish(images, columns=2)
    return [path.name for path in paths]


def test_files_and_manifest(tmp_path):
    names = run(tmp_path, facts(), facts(seed=4))

    assert names == ["0000-seed3.png", "0001-seed4.png"]
    assert {path.name for path in tmp_path.iterdir()} == {*names, "contact_sheet.png", "manifest.json"}
    (entry,) = json.loads((tmp_path / "manifest.json").read_text())["runs"]
    assert [image["file"] for image in entry["images"]] == names
    assert entry["images"][1]["seed"] == 4 and entry["embeds"] == SETTINGS["embeds"]


def test_an_image_says_how_it_was_made(tmp_path):
    run(tmp_path, facts(prompt="一张<猫>的照片", negative_prompt="fog"))

    with Image.open(tmp_path / "0000-seed3.png") as image:
        text = image.text
    assert text["prompt"] == "一张<猫>的照片" and text["seed"] == "3" and text["guidance_scale"] == "7.5"
    assert text["parameters"].splitlines() == [
        "一张<猫>的照片",
        "Negative prompt: fog",
        "Steps: 20, Sampler: DDIMScheduler, CFG scale: 7.5, Seed: 3, Size: 16x8, Model: sd",
    ]
    assert json.loads(text["embeds"]) == SETTINGS["embeds"]


def test_an_earlier_run_stays(tmp_path):
    run(tmp_path, facts(), facts(seed=4))
    before = {path.name: path.read_bytes() for path in tmp_path.glob("0*.png")}

    names = run(tmp_path, facts())

    assert names == ["0002-seed3.png"]
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    runs = json.loads((tmp_path / "manifest.json").read_text())["runs"]
    assert [len(entry["images"]) for entry in runs] == [2, 1]


def test_an_interrupted_run_leaves_its_images_in_the_manifest(tmp_path):
    gallery = Gallery(tmp_path, SETTINGS)
    gallery.reserve(3)
    image = Image.new("RGB", (16, 8))
    name = gallery.save(1, image, facts()).name
    gallery.finish([image], columns=2)

    (entry,) = json.loads((tmp_path / "manifest.json").read_text())["runs"]
    assert [image["file"] for image in entry["images"]] == [name] == ["0001-seed3.png"]


def test_a_run_without_images_leaves_nothing(tmp_path):
    gallery = Gallery(tmp_path, SETTINGS)
    gallery.reserve(3)
    gallery.finish([], columns=2)

    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_leaves_its_settings_and_keeps_its_numbers(tmp_path):
    Gallery(tmp_path, SETTINGS).reserve(3)  # and then it is killed

    assert run(tmp_path, facts()) == ["0003-seed3.png"]
    killed, finished = json.loads((tmp_path / "manifest.json").read_text())["runs"]
    assert killed["embeds"] == SETTINGS["embeds"] and len(finished["images"]) == 1


def test_runs_at_the_same_time_lose_no_image_and_no_record(tmp_path):
    """Processes and threads alike: what a lock protects is seen by every descriptor of the file."""
    together = threading.Barrier(8)

    def one_run(_: int) -> list[str]:
        together.wait()
        return run(tmp_path, *[facts(seed=seed) for seed in (3, 4, 5)])

    with ThreadPoolExecutor(8) as pool:
        names = [name for made in pool.map(one_run, range(8)) for name in made]

    assert len(set(names)) == 24 and {path.name for path in tmp_path.glob("*-seed*.png")} == set(names)
    entries = json.loads((tmp_path / "manifest.json").read_text())["runs"]
    assert sorted(image["file"] for entry in entries for image in entry["images"]) == sorted(names)
    assert len(entries) == 8 and {path.name for path in tmp_path.glob(".*")} == set()


@pytest.mark.parametrize("content", ["{}", "[1]", "no json", '{"runs": 1}'])
def test_another_programs_manifest_is_not_touched(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)

    with pytest.raises(OutputError, match="choose another --output_dir"):
        Gallery(tmp_path, SETTINGS)
    assert (tmp_path / "manifest.json").read_text() == content


def test_labels_name_the_settings_that_differ():
    entry = {"prompt": "a <t>", "seed": 3, "guidance_scale": 7.5, "num_inference_steps": 20}

    assert label(entry, []) == "a <t>  (seed 3)"
    assert label(entry, list(SCANNED)) == "a <t>  (seed 3, guidance 7.5, steps 20)"
