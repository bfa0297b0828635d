"""Saves that fail at every step: earlier files stay good, nothing half-written stays, and the rows are kept."""

import errno
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from textual_inversion.training.saving import Saves, save_rows

from helpers.failing_disk import FailingDisk, temporary_files
from textual_inversion.formats.embedding_file import read_embeddings
from textual_inversion.settings.concept import Concept
from textual_inversion.system.errors import ConceptError, OutputError
from textual_inversion.training import outputs, saving

CONCEPTS = [Concept("<a>", 2), Concept("<b>", 1)]
FINAL_FILES = ["learned_embeds-a.safetensors", "learned_embeds-b.safetensors", "learned_embeds.pdparams"]


def rows(value):
    return {"text_encoder": np.full((3, 4), value, "float32")}


def learned(value):
    return outputs.as_learned(CONCEPTS, rows(value), {})


def values(path):
    """The one value that all numbers of a file have."""
    found = {float(x) for one in read_embeddings(path) for x in one.vectors["text_encoder"].ravel()}
    assert len(found) == 1
    return found.pop()


def save(folder, value, step):
    outputs.save_embeddings(folder, CONCEPTS, rows(value), {}, step=step)


def steps_of(monkeypatch, write, *arguments):
    """How many steps a save has."""
    with monkeypatch.context() as patch:
        disk = FailingDisk(patch)
        write(*arguments)
        return disk.steps


# ---------------------------------------------------------------------------------------------------- periodic saves


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_periodic_save_that_fails_at_any_step_leaves_good_files_and_the_next_one_succeeds(
    tmp_path, monkeypatch, number
):
    steps = steps_of(monkeypatch, save, tmp_path / "..", 0.0, 1)
    assert steps == 2 * len(("create", "write", "flush", "rename", "flush-folder"))

    for failing in range(steps):
        folder, said = tmp_path / str(failing), []
        saves = Saves(folder, said.append)
        folder.mkdir()
        save(folder, 1.0, 10)
        disk = FailingDisk(monkeypatch, number)
        disk.fails = failing.__eq__

        assert not saves.attempt(save, folder, 2.0, 20)

        assert len(said) == len(saves.failures) == 1 and "\n" not in said[0]
        assert said[0].startswith("warning: cannot write") and "tries again" in said[0]
        assert values(folder / "learned_embeds-steps-10.pdparams") == 1.0
        assert values(folder / "learned_embeds.pdparams") in (1.0, 2.0)
        assert temporary_files(folder) == []

        assert saves.attempt(save, folder, 3.0, 30) and len(said) == 1
        assert values(folder / "learned_embeds.pdparams") == values(folder / "learned_embeds-steps-30.pdparams") == 3.0


def test_a_folder_that_was_removed_is_made_anew(tmp_path):
    said = []
    folder = tmp_path / "run" / "out"

    assert Saves(folder, said.append).attempt(save, folder, 1.0, 10)

    assert values(folder / "learned_embeds.pdparams") == 1.0
    assert len(said) == 1 and "was gone; it is made anew" in said[0]


def test_a_folder_that_cannot_be_made_anew_is_a_failure_in_a_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    said, written = [], []

    assert not Saves(tmp_path / "file" / "out", said.append).attempt(written.append, 1)

    assert len(said) == 1 and "file/out" in said[0] and not written


def test_only_what_the_system_refuses_is_forgiven(tmp_path):
    def raises(error):
        raise error

    saves = Saves(tmp_path)
    assert not saves.attempt(raises, PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "x")))
    assert "Permission denied" in str(saves.failures[0]) and str(tmp_path / "x") in str(saves.failures[0])
    for error in (ValueError("a fault"), ConceptError("taken"), BrokenPipeError(), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            saves.attempt(raises, error)


# ------------------------------------------------------------------------------------------------------ the last save


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder in the place of the system's temporary one, and no other one to go to."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.setattr(saving, "_other_places", lambda: [tmp_path / "not there", folder])
    return folder


def test_the_last_save_that_fails_at_any_step_keeps_the_rows_elsewhere(tmp_path, monkeypatch, elsewhere):
    steps = steps_of(monkeypatch, outputs.save_final, tmp_path, learned(0.0))
    assert steps == 3 * 5

    for failing in range(steps):
        run = SimpleNamespace(folder=tmp_path / str(failing))
        run.folder.mkdir()
        outputs.save_final(run.folder, learned(1.0))
        disk = FailingDisk(monkeypatch)
        disk.fails = failing.__eq__

        failure = save_rows(run, learned(2.0))

        assert "the disk is full" in str(failure)
        assert run.folder.parent == elsewhere and run.folder.name.startswith("textual-inversion-")
        assert [values(run.folder / name) for name in FINAL_FILES] == [2.0] * 3
        for name in FINAL_FILES:
            assert values(tmp_path / str(failing) / name) in (1.0, 2.0)
        assert temporary_files(tmp_path) == []


def test_the_last_save_goes_to_the_output_folder_and_makes_it_anew(tmp_path, elsewhere):
    run = SimpleNamespace(folder=tmp_path / "out")

    assert save_rows(run, learned(2.0)) is None

    assert run.folder == tmp_path / "out" and sorted(p.name for p in run.folder.iterdir()) == FINAL_FILES
    assert not list(elsewhere.iterdir())


def test_rows_that_can_be_kept_nowhere_are_said_to_be_lost(tmp_path, monkeypatch, elsewhere):
    FailingDisk(monkeypatch).fails = lambda step: True

    with pytest.raises(OutputError, match="disk is full.*they are lost"):
        save_rows(SimpleNamespace(folder=tmp_path), learned(2.0))
    assert temporary_files(tmp_path) == []


def test_the_systems_temporary_folder_comes_first(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/somewhere")

    assert saving._other_places()[0] == Path("/somewhere")
    assert Path.home() in saving._other_places()


def test_the_last_line_names_the_first_failure_and_where_the_rows_are(tmp_path):
    failures = [OutputError("cannot write a: full"), OutputError("cannot write b: full")]

    assert str(saving.unsaved(failures, tmp_path)) == (
        f"cannot write a: full (and 1 more); the learned rows are in {tmp_path}"
    )
