"""Numbered images, what they say about themselves, runs that are continued, and the shares of several processes."""

import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from textual_inversion.generation.gallery import Gallery, PlannedImages
from textual_inversion.generation.manifest import recorded_runs
from textual_inversion.system import atomic
from textual_inversion.system.errors import OutputError
from textual_inversion.system.process_share import ProcessShare

SETTINGS = {"base_model": "models/sd", "embeds": [{"file": "a.pdparams", "sha256": "00"}]}


def facts(**changes):
    usual = dict(prompt="a <cat-toy>", negative_prompt="", seed=3, guidance_scale=7.5, num_inference_steps=20)
    return {**usual, "scheduler": "DDIMScheduler", "base_model": "models/sd", **changes}


def planned(all_facts, **more):
    """The images of these facts, each with a key that is its facts."""
    keys = [str(abs(hash(json.dumps(one)))) for one in all_facts]
    return PlannedImages(keys, [one["seed"] for one in all_facts], **more)


def picture(number=0):
    return Image.new("RGB", (16, 8), (40 * number % 256, 0, 0))


def begun(folder, all_facts, share=ProcessShare(), clock=None, **more):  # noqa: B008
    gallery = Gallery(folder, SETTINGS, **({"clock": clock} if clock else {}))
    done = gallery.begin(planned(all_facts, **more), share)
    return gallery, done


def run(folder, *all_facts, **more):
    """Draw what is missing of some images, to the end; the names of those that were drawn."""
    gallery, done = begun(folder, all_facts, **more)
    missing = [position for position in range(len(all_facts)) if position not in done]
    paths = [gallery.save(position, picture(position), all_facts[position]) for position in missing]
    gallery.finish()
    gallery.close()
    return [path.name for path in paths]


def kill(gallery):
    """Let go of a gallery as the system does for a killed process."""
    gallery._journal._descriptor = os.close(gallery._journal._descriptor)


def test_files_and_manifest(tmp_path):
    names = run(tmp_path, facts(), facts(seed=4))

    assert names == ["0000-seed3.png", "0001-seed4.png"]
    assert {path.name for path in tmp_path.iterdir()} == {*names, "manifest.json"}
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
    gallery, _ = begun(tmp_path, [facts(seed=seed) for seed in range(3)])
    name = gallery.save(1, picture(), facts(seed=1)).name
    state = gallery.finish()
    gallery.close()

    (entry,) = json.loads((tmp_path / "manifest.json").read_text())["runs"]
    assert [image["file"] for image in entry["images"]] == [name] == ["0001-seed1.png"]
    assert state.images == entry["images"] and state.total == 3 and not state.is_complete


def test_a_run_without_images_leaves_nothing(tmp_path):
    gallery, _ = begun(tmp_path, [facts()] * 3)
    gallery.finish()
    gallery.close()

    assert list(tmp_path.iterdir()) == []


def test_numbers_of_a_run_that_is_not_over_are_its_own(tmp_path):
    first, _ = begun(tmp_path, [facts()] * 3)

    assert run(tmp_path, facts(seed=9)) == ["0003-seed9.png"]
    first.save(0, picture(), facts())
    first.finish()
    unfinished, finished = json.loads((tmp_path / "manifest.json").read_text())["runs"]
    assert unfinished["embeds"] == SETTINGS["embeds"] and len(unfinished["images"]) == len(finished["images"]) == 1


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
        assert set(run(folder, *[facts(seed=seed) for seed in range(3)])) | set(made) == set(images_on_disk(folder))
        assert len(images_on_disk(folder)) == 3
        assert recorded(in_manifest(folder)) == images_on_disk(folder) == recorded(recorded_runs(folder))
        assert set(made) <= set(images_on_disk(folder)) and not list(folder.glob("*.jsonl"))
        kills += bool(made)
    assert kills >= 10


def test_a_killed_runs_images_are_taken_over_into_the_manifest_by_the_next_run(tmp_path):
    gallery, _ = begun(tmp_path, [facts(seed=seed) for seed in range(5)], clock=Clock(1.0))  # not due for an update yet
    for position in (2, 0, 1):
        gallery.save(position, picture(), facts(seed=position))
    kill(gallery)
    (tmp_path / "0001-seed1.png").unlink()
    assert recorded(recorded_runs(tmp_path)) == ["0000-seed0.png", "0002-seed2.png"]

    assert run(tmp_path, facts()) == ["0005-seed3.png"]
    killed, finished = in_manifest(tmp_path)
    assert [entry["file"] for entry in killed["images"]] == ["0000-seed0.png", "0002-seed2.png"]
    assert killed["images"][1]["seed"] == 2 and killed["embeds"] == SETTINGS["embeds"]
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".json"}


def test_a_run_that_goes_on_keeps_its_journal_while_others_begin_and_end(tmp_path):
    gallery, _ = begun(tmp_path, [facts(), facts(seed=4)], clock=Clock(1.0))
    gallery.save(0, picture(), facts())
    run(tmp_path, facts())
    gallery.save(1, picture(), facts(seed=4))

    assert len(list(tmp_path.glob("manifest-*.jsonl"))) == 1
    assert recorded(recorded_runs(tmp_path)) == images_on_disk(tmp_path) and len(images_on_disk(tmp_path)) == 3


def test_a_run_that_is_killed_while_another_takes_over_loses_nothing(tmp_path, monkeypatch):
    gallery, _ = begun(tmp_path, [facts(), facts(seed=4)], clock=Clock(1.0))
    gallery.save(0, picture(), facts())
    usual = recorded_runs

    def killed_after_it_is_read(folder):
        runs = usual(folder)
        if gallery._journal._descriptor is not None:
            gallery.save(1, picture(), facts(seed=4))
            kill(gallery)
        return runs

    monkeypatch.setattr("textual_inversion.generation.manifest.recorded_runs", killed_after_it_is_read)
    begun(tmp_path, [facts(seed=5)])

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
    usual = atomic.write_bytes
    monkeypatch.setattr(atomic, "write_bytes", lambda path, data: (writes.append(path.name), usual(path, data)))
    clock = Clock(0.001)
    gallery, _ = begun(tmp_path, [facts()] * 300, clock=clock)
    for position in range(200):
        gallery.save(position, Image.new("RGB", (1, 1)), facts())
    assert writes.count("manifest.json") < 20 and len(writes) > 200

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


def test_runs_of_the_same_images_at_the_same_time_lose_no_image_and_no_record(tmp_path):
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


# ------------------------------------------------------------------------------------------------------- continued runs

THREE = [facts(seed=seed) for seed in range(3)]


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*-seed*.png")}


def test_a_run_that_was_cut_short_is_continued_where_it_was(tmp_path):
    run(tmp_path, facts())
    gallery, _ = begun(tmp_path, THREE)
    gallery.save(1, picture(1), THREE[1])
    kill(gallery)
    before = stamps(tmp_path)

    assert run(tmp_path, *THREE) == ["0001-seed0.png", "0003-seed2.png"]
    assert before.items() < stamps(tmp_path).items()
    other, continued = in_manifest(tmp_path)
    assert recorded([continued]) == ["0001-seed0.png", "0002-seed1.png", "0003-seed2.png"]


def test_a_plain_run_that_is_complete_or_is_being_drawn_is_drawn_anew(tmp_path):
    run(tmp_path, *THREE)
    assert run(tmp_path, *THREE) == [f"{number:04d}-seed{number - 3}.png" for number in (3, 4, 5)]

    alive, _ = begun(tmp_path, THREE[:2])
    alive.save(0, picture(), THREE[0])
    assert run(tmp_path, *THREE[:2]) == ["0008-seed0.png", "0009-seed1.png"]


@pytest.mark.parametrize("damage", ["removed", "cut", "emptied"])
def test_an_image_that_is_not_whole_is_drawn_again(tmp_path, damage):
    run(tmp_path, *THREE, is_grid=True)
    path = tmp_path / "0001-seed1.png"
    content = path.read_bytes()
    path.unlink()
    if damage != "removed":
        path.write_bytes(content[:-20] if damage == "cut" else b"")

    assert run(tmp_path, *THREE, is_grid=True) == ["0001-seed1.png"] and path.read_bytes() == content


@pytest.mark.parametrize("name", ["0001-seed1.png", "0001-seed99.png", "00001-seed1.png"])
def test_a_file_that_is_not_the_runs_is_never_overwritten_and_never_counted(tmp_path, name):
    gallery, _ = begun(tmp_path, THREE)
    gallery.save(0, picture(), THREE[0])
    kill(gallery)
    Image.new("RGB", (5, 5), "red").save(tmp_path / name)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    with pytest.raises(OutputError, match=f"{name} has the number of an image of this run and is none of its images"):
        begun(tmp_path, THREE)

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_one_grid_a_folder(tmp_path):
    run(tmp_path, facts(seed=8))
    run(tmp_path, *THREE, is_grid=True)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    with pytest.raises(OutputError, match="holds another grid; choose another --output_dir"):
        begun(tmp_path, THREE[:2], is_grid=True)

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert run(tmp_path, *THREE, is_grid=True) == [] and run(tmp_path, facts()) == ["0004-seed3.png"]


def test_a_drawn_seed_is_that_of_the_run_that_is_to_be_continued(tmp_path):
    started = ProcessShare(1, 2, "a start")
    assert Gallery(tmp_path, SETTINGS).drawn_seed("settings") is None
    gallery, _ = begun(tmp_path, THREE, settings="settings", drawn_seed=77)
    gallery.save(0, picture(), THREE[0])
    assert Gallery(tmp_path, SETTINGS).drawn_seed("settings") is None  # another process draws these
    kill(gallery)
    assert Gallery(tmp_path, SETTINGS).drawn_seed("settings") == 77
    assert Gallery(tmp_path, SETTINGS).drawn_seed("others") is None

    run(tmp_path, *THREE, settings="settings", drawn_seed=77, share=started)

    assert Gallery(tmp_path, SETTINGS).drawn_seed("settings") is None
    assert Gallery(tmp_path, SETTINGS).drawn_seed("settings", started) == 77  # another process of this start was quick
    assert Gallery(tmp_path, SETTINGS).drawn_seed("settings", ProcessShare(1, 2, "another")) is None


# ------------------------------------------------------------------------------------------------- several processes


def test_processes_of_one_grid_share_its_entry_and_the_last_one_finds_it_complete(tmp_path):
    shares = [ProcessShare(rank, 3, "start") for rank in range(3)]
    galleries = [begun(tmp_path, THREE, share, is_grid=True)[0] for share in shares]
    for rank in (2, 0):
        galleries[rank].save(rank, picture(rank), THREE[rank])
        assert not galleries[rank].finish().is_complete
        galleries[rank].close()
    galleries[1].save(1, picture(1), THREE[1])
    assert galleries[1].drawn() == {0, 1, 2}

    state = galleries[1].finish()
    galleries[1].close()

    assert state.is_complete and [image["seed"] for image in state.images] == [0, 1, 2]
    (entry,) = in_manifest(tmp_path)
    assert recorded([entry]) == images_on_disk(tmp_path) and entry["plan"]["count"] == 3
    assert not list(tmp_path.glob("*.jsonl"))


def test_a_process_without_a_share_leaves_the_others_entry(tmp_path):
    one, _ = begun(tmp_path, THREE, ProcessShare(0, 2, "start"), is_grid=True)
    idle, _ = begun(tmp_path, THREE, ProcessShare(1, 2, "start"), is_grid=True)
    idle.finish()
    idle.close()
    one.save(0, picture(), THREE[0])

    assert [image["file"] for image in one.finish().images] == ["0000-seed0.png"]


def test_a_hundred_thousand_images_can_be_recorded_and_read(tmp_path):
    many = [
        {"file": f"{i:04d}-seed{i}.png", "key": f"{i:032d}", "bytes": 1, **facts(prompt="a, " * 10)}
        for i in range(100_000)
    ]
    from textual_inversion.generation import manifest

    (tmp_path / "manifest.json").write_bytes(manifest._text([{"id": "a", "images": many}]))

    (entry,) = recorded_runs(tmp_path)
    assert len(entry["images"]) == 100_000 and entry["images"][-1] == many[-1]


def test_links_and_folders_have_numbers_and_stay_what_they_are(tmp_path):
    (tmp_path / "0000-seed1.png").symlink_to("0000-seed1.png")
    (tmp_path / "0001-seed1.png").symlink_to(tmp_path / "missing")
    (tmp_path / "0002-seed1.png").mkdir()

    names = run(tmp_path, facts(seed=1))

    assert names == ["0003-seed1.png"]
    assert (tmp_path / "0000-seed1.png").is_symlink() and (tmp_path / "0001-seed1.png").is_symlink()
    assert (tmp_path / "0002-seed1.png").is_dir() and not (tmp_path / "missing").exists()
