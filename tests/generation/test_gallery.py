"""Numbered images, what they say about themselves, the manifest of all runs."""

import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from textual_inversion.generation.gallery import SCANNED, Gallery, label, recorded_runs
from textual_inversion.system import atomic
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
        "Steps: 20, Sampler: DDIM, CFG scale: 7.5, Seed: 3, Size: 16x8, Model: sd",
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


# ------------------------------------------------------------------------------------------------------ killed runs


def images_on_disk(folder):
    return sorted(path.name for path in folder.glob("*-seed*.png"))


def recorded(runs):
    return sorted(image["file"] for entry in runs for image in entry["images"])


def in_manifest(folder):
    return json.loads((folder / "manifest.json").read_text())["runs"]


def killed_at(step, folder, images):
    """In a child process, make images and be killed before the given step of their saves; whether it was."""
    child = os.fork()
    if child == 0:
        count = iter(range(10_000))
        atomic._step = lambda name: next(count) == step and os.kill(os.getpid(), signal.SIGKILL)
        try:
            run(folder, *[facts(seed=seed) for seed in range(images)])
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_every_image_is_recorded_before_whatever_step_a_run_is_killed(tmp_path):
    kills = 0
    for step in range(10_000):
        folder = tmp_path / str(step)
        folder.mkdir()
        if not killed_at(step, folder, images=3):
            break
        made = images_on_disk(folder)
        assert recorded(recorded_runs(folder)) == made
        run(folder, facts(seed=77))
        assert recorded(in_manifest(folder)) == images_on_disk(folder) == recorded(recorded_runs(folder))
        assert set(made) < set(images_on_disk(folder)) and not list(folder.glob("*.jsonl"))
        kills += bool(made)
    assert kills >= 10


def test_a_killed_runs_images_are_taken_over_into_the_manifest_by_the_next_run(tmp_path):
    gallery = Gallery(tmp_path, SETTINGS, clock=Clock(1.0))  # whose manifest is not due yet
    gallery.reserve(5)
    for position in (2, 0, 1):
        gallery.save(position, Image.new("RGB", (8, 8)), facts(seed=position))
    gallery._journal._descriptor = os.close(gallery._journal._descriptor)  # as the system does for a killed process
    (tmp_path / "0001-seed1.png").unlink()
    assert recorded(recorded_runs(tmp_path)) == ["0000-seed0.png", "0002-seed2.png"]

    assert run(tmp_path, facts()) == ["0005-seed3.png"]
    killed, finished = in_manifest(tmp_path)
    assert [entry["file"] for entry in killed["images"]] == ["0000-seed0.png", "0002-seed2.png"]
    assert killed["images"][1]["seed"] == 2 and killed["embeds"] == SETTINGS["embeds"]
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".json"}


def test_a_run_that_goes_on_keeps_its_journal_while_others_begin_and_end(tmp_path):
    gallery = Gallery(tmp_path, SETTINGS, clock=Clock(1.0))
    gallery.reserve(2)
    gallery.save(0, Image.new("RGB", (8, 8)), facts())
    run(tmp_path, facts())
    gallery.save(1, Image.new("RGB", (8, 8)), facts())

    assert len(list(tmp_path.glob("manifest-*.jsonl"))) == 1
    assert recorded(recorded_runs(tmp_path)) == images_on_disk(tmp_path) and len(images_on_disk(tmp_path)) == 3


def test_a_run_that_is_killed_while_another_takes_over_loses_nothing(tmp_path, monkeypatch):
    gallery = Gallery(tmp_path, SETTINGS, clock=Clock(1.0))
    gallery.reserve(2)
    gallery.save(0, Image.new("RGB", (8, 8)), facts())
    usual = recorded_runs

    def killed_after_it_is_read(folder):
        runs = usual(folder)
        if gallery._journal._descriptor is not None:
            gallery.save(1, Image.new("RGB", (8, 8)), facts())
            gallery._journal._descriptor = os.close(gallery._journal._descriptor)
        return runs

    monkeypatch.setattr("textual_inversion.generation.gallery.recorded_runs", killed_after_it_is_read)
    Gallery(tmp_path, SETTINGS).reserve(1)

    assert recorded(usual(tmp_path)) == images_on_disk(tmp_path) and len(images_on_disk(tmp_path)) == 2


class Clock:
    """A clock that advances by as much whenever it is read."""

    def __init__(self, seconds):
        self.now, self.seconds = 0.0, seconds

    def __call__(self):
        self.now += self.seconds
        return self.now


def test_the_manifest_keeps_up_with_slow_images_and_is_not_written_for_each_of_many(tmp_path, monkeypatch):
    writes = []
    usual = atomic.write_json
    monkeypatch.setattr(atomic, "write_json", lambda *arguments: (writes.append(1), usual(*arguments)))
    clock = Clock(0.001)
    gallery = Gallery(tmp_path, SETTINGS, clock=clock)
    gallery.reserve(300)
    for position in range(200):
        gallery.save(position, Image.new("RGB", (1, 1)), facts())
    assert len(writes) < 20

    for position in range(200, 203):
        clock.now += 60
        gallery.save(position, Image.new("RGB", (1, 1)), facts())
        assert recorded(in_manifest(tmp_path)) == images_on_disk(tmp_path)


@pytest.mark.parametrize(
    "line", ['{"file": "../../x.png"}', '{"file": 3}', "[1]", '"x"', "no json", '{"id": 5}', "\xff"]
)
def test_a_strangers_journal_adds_nothing(tmp_path, line):
    run(tmp_path, facts())
    before = in_manifest(tmp_path)
    (tmp_path / "manifest-00.jsonl").write_bytes(f"{line}\n{line}\n".encode("latin-1"))
    assert recorded_runs(tmp_path) == before


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
