"""Checkpoints: what is written is read again, what is damaged is named, and no save ever harms an older one."""

import itertools
import json
import subprocess

import numpy as np
import pytest

from helpers.checkpoint_facts import change_facts, facts_of_a_run, save_checkpoint
from textual_inversion.system import atomic
from textual_inversion.system.errors import CheckpointError
from textual_inversion.training import checkpoints
from textual_inversion.training.checkpoints import Checkpoint


def state(step, value=None):
    vectors = np.full((2, 4), step if value is None else value, dtype=np.float32)
    return Checkpoint(step, {"rows/text_encoder/0": vectors}, facts_of_a_run(loss=step / 3))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_is_read_bit_for_bit(tmp_path):
    odd = np.array([np.nextafter(np.float32(0.9), 1), -0.0, 1e-42, np.inf], dtype=np.float32)
    facts = facts_of_a_run(loss=0.1 + 0.2, figures={"tokens": ["<猫>"], "none": None})

    folder = checkpoints.save(tmp_path, Checkpoint(7, {"a/b": odd, "scalar": odd[:1]}, facts))
    read = checkpoints.read(folder)

    assert (read.step, read.folder, read.facts) == (7, tmp_path / "checkpoint-7", facts | {"serial": 1})
    assert {name: a.tobytes() for name, a in read.tensors.items()} == {
        "a/b": odd.tobytes(),
        "scalar": odd[:1].tobytes(),
    }


def test_anybody_can_check_the_sums(tmp_path):
    folder = checkpoints.save(tmp_path, state(1))

    assert subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder).returncode == 0
    assert names(folder) == ["SHA256SUMS", "checkpoint.json", "state.safetensors"]


def test_old_ones_go_when_the_new_one_is_complete(tmp_path, monkeypatch):
    seen = []
    remove = atomic.remove_folder
    monkeypatch.setattr(atomic, "remove_folder", lambda f: (seen.append((f.name, names(tmp_path))), remove(f)))

    for step in (2, 4, 6, 8):
        checkpoints.save(tmp_path, state(step), keep=2)

    assert names(tmp_path) == ["checkpoint-6", "checkpoint-8"]
    assert seen == [
        ("checkpoint-2", ["checkpoint-2", "checkpoint-4", "checkpoint-6"]),
        ("checkpoint-4", ["checkpoint-4", "checkpoint-6", "checkpoint-8"]),
    ]


def test_the_latest_is_the_one_written_last_whatever_an_earlier_run_left(tmp_path):
    for step in (50, 100):
        checkpoints.save(tmp_path, state(step))
    checkpoints.save(tmp_path, state(10), keep=2)

    assert checkpoints.latest(tmp_path, pytest.fail).step == 10
    assert names(tmp_path) == ["checkpoint-10", "checkpoint-100"]
    checkpoints.save(tmp_path, state(100, value=0.5))
    assert checkpoints.latest(tmp_path, pytest.fail).tensors["rows/text_encoder/0"][0, 0] == 0.5


def damages(folder):
    """(description, how to do it) of every file: each of some bytes flipped, cut short, emptied, removed."""
    for name in names(folder):
        data = (folder / name).read_bytes()
        for position in range(0, len(data), max(1, len(data) // 12)):
            flipped = bytearray(data)
            flipped[position] ^= 1 << position % 8
            yield f"{name} with byte {position} flipped", name, bytes(flipped)
        yield f"{name} cut short", name, data[:-1]
        yield f"{name} emptied", name, b""
        yield f"{name} missing", name, None


def test_any_damage_is_found_and_named_and_the_one_before_is_used(tmp_path):
    for step in (2, 4):
        checkpoints.save(tmp_path, state(step))
    folder, tried = tmp_path / "checkpoint-4", 0
    for description, name, damaged in list(damages(folder)):
        whole, notes = (folder / name).read_bytes(), []
        (folder / name).unlink() if damaged is None else (folder / name).write_bytes(damaged)

        found = checkpoints.latest(tmp_path, notes.append)

        assert found.step == 2, description
        assert len(notes) == 1 and "checkpoint-4 is damaged" in notes[0] and "passed over" in notes[0], description
        with pytest.raises(CheckpointError, match="checkpoint-4 is damaged"):
            checkpoints.find(str(folder), tmp_path, pytest.fail)
        (folder / name).write_bytes(whole)
        tried += 1
    assert tried == 47 and checkpoints.latest(tmp_path, pytest.fail).step == 4


def test_where_all_are_damaged_nothing_begins_anew_unasked(tmp_path):
    for step in (2, 4):
        (checkpoints.save(tmp_path, state(step)) / "SHA256SUMS").write_text("nonsense")
    notes = []

    with pytest.raises(CheckpointError, match="no checkpoint in .* remove them to start over"):
        checkpoints.find("latest", tmp_path, notes.append)

    assert len(notes) == 2


def test_a_checkpoint_may_be_named_in_several_ways(tmp_path):
    for step in (2, 4):
        checkpoints.save(tmp_path / "out" if (tmp_path / "out").mkdir(exist_ok=True) else tmp_path / "out", state(step))
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"

    assert checkpoints.find("latest", out, pytest.fail).step == 4
    assert checkpoints.find("checkpoint-2", out, pytest.fail).step == 2
    assert checkpoints.find(str(out / "checkpoint-2"), elsewhere, pytest.fail).step == 2
    assert checkpoints.find(str(out), elsewhere, pytest.fail).step == 4
    assert checkpoints.find("latest", elsewhere, pytest.fail) is None
    (tmp_path / "checkpoint-x").mkdir()
    for wanted, named in [("checkpoint-3", "no such folder"), (str(tmp_path / "checkpoint-x"), "SHA256SUMS")]:
        with pytest.raises(CheckpointError, match=named):
            checkpoints.find(wanted, out, pytest.fail)


def test_one_of_another_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "_FORMAT", 99)
    folder = checkpoints.save(tmp_path, state(1))
    monkeypatch.undo()

    with pytest.raises(CheckpointError, match="another version"):
        checkpoints.read(folder)
    assert json.loads((folder / "checkpoint.json").read_text())["format"] == 99


class Cut(BaseException):
    """In place of a kill."""


def test_whatever_step_a_save_ends_in_there_is_a_whole_latest_one(tmp_path, monkeypatch):
    """An exception here; `benchmarks/kill_and_resume.py` does it with SIGKILL."""
    done, ended_in = [], []
    for at in itertools.count():
        folder = tmp_path / str(at)
        folder.mkdir()
        for step in (2, 4):  # the second is replaced, the first goes
            checkpoints.save(folder, state(step))
        done.clear()

        def step_of_a_save(name, at=at):
            if len(done) == at:
                raise Cut
            done.append(name)

        with monkeypatch.context() as patch:
            patch.setattr(atomic, "_step", step_of_a_save)
            try:
                checkpoints.save(folder, state(4, value=0.5), keep=1)
                break
            except Cut:
                ended_in.append(checkpoints.latest(folder, pytest.fail).tensors["rows/text_encoder/0"][0, 0])

    assert set(done) == {"create", "write", "flush", "flush-folder", "exchange", "rename", "remove"}
    assert set(ended_in) == {4.0, 0.5} and ended_in == sorted(ended_in, reverse=True)
    assert names(folder) == ["checkpoint-4"]


def test_a_loss_that_is_no_number_can_be_resumed(tmp_path):
    """A step that is skipped for it may be the one that is saved."""
    figures = {"fixed_set_loss": {"0": float("nan")}, "best": {"by": "x", "scores": {"0": float("inf")}}}
    facts = checkpoints.read(save_checkpoint(tmp_path, 1, loss=float("nan"), figures=figures)).facts

    assert np.isnan(facts["loss"]) and np.isnan(facts["figures"]["fixed_set_loss"]["0"])


def test_facts_that_no_run_writes_are_passed_over_whatever_their_check_sum(tmp_path):
    save_checkpoint(tmp_path, 2)
    change_facts(save_checkpoint(tmp_path, 4), lambda facts: facts.pop("settings"))
    notes = []

    assert checkpoints.latest(tmp_path, notes.append).step == 2
    assert notes == [
        f"warning: {tmp_path}/checkpoint-4 is no checkpoint of this program: checkpoint.json lacks settings; choose "
        "another one; it is passed over"
    ]
