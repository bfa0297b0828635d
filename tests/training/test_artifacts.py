"""The files of a run, and saves that fail at every step: earlier files stay good, nothing half-written stays."""

import errno
import json
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from helpers.configs import config_of
from helpers.failing_disk import FailingDisk, temporary_files
from helpers.training_runs import vectors_in
from textual_inversion.formats.embedding_file import read_embeddings
from textual_inversion.settings.concept import Concept
from textual_inversion.system.errors import ConceptError, OutputError
from textual_inversion.training import artifacts
from textual_inversion.training.artifacts import Saves, as_learned, save_embeddings, save_final, save_somewhere
from textual_inversion.training.state import Record
from textual_inversion.training.step_plan import StepPlan

CONCEPTS = [Concept("<a>", 2), Concept("<b/c>", 1)]
FINAL_FILES = ["learned_embeds-a.safetensors", "learned_embeds-b-c.safetensors", "learned_embeds.pdparams"]
VECTORS = np.arange(12, dtype="float32").reshape(3, 4)


def learned_from(vectors):
    return as_learned(CONCEPTS, {"text_encoder": vectors}, {"steps": "7"})


# -------------------------------------------------------------------------------------------------------- embeddings


def test_vectors_are_cut_into_concepts_in_order():
    a, b = learned_from(VECTORS)

    assert (a.placeholder_token, b.placeholder_token) == ("<a>", "<b/c>")
    np.testing.assert_array_equal(a.vectors["text_encoder"], VECTORS[:2])
    np.testing.assert_array_equal(b.vectors["text_encoder"], VECTORS[2:])


def test_periodic_saves_keep_a_copy_by_step_and_renew_the_latest(tmp_path):
    save_embeddings(tmp_path, learned_from(VECTORS), step=10)
    save_embeddings(tmp_path, learned_from(VECTORS + 1), step=20)

    np.testing.assert_array_equal(vectors_in(tmp_path / "learned_embeds-steps-10.pdparams"), VECTORS[:2])
    np.testing.assert_array_equal(vectors_in(tmp_path / "learned_embeds.pdparams"), VECTORS[:2] + 1)


@pytest.mark.parametrize("encoders", [("text_encoder",), ("text_encoder", "text_encoder_2")])
@pytest.mark.parametrize("count", [1, 2])
def test_files_of_a_step_are_those_of_the_end_under_other_names(tmp_path, encoders, count):
    vectors = {name: VECTORS + index for index, name in enumerate(encoders)}
    learned = as_learned(CONCEPTS[:count], vectors, {"steps": "7", "base_model": "m"})

    save_embeddings(tmp_path, learned, step=7)
    of_step = {path.name: path.read_bytes() for path in tmp_path.glob("learned_embeds-steps-7*")}
    save_final(tmp_path, learned)

    final = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name not in of_step}
    assert of_step == {name.replace("embeds", "embeds-steps-7", 1): content for name, content in final.items()}
    assert sorted(final) == (FINAL_FILES if count == 2 else ["learned_embeds.pdparams", "learned_embeds.safetensors"])
    (one,) = read_embeddings(tmp_path / f"learned_embeds-steps-7{'-a' if count == 2 else ''}.safetensors")
    assert set(one.vectors) == set(encoders) and one.metadata["base_model"] == "m"


def test_several_concepts_get_a_safetensors_file_each(tmp_path):
    save_final(tmp_path, learned_from(VECTORS))

    assert sorted(path.name for path in tmp_path.iterdir()) == FINAL_FILES
    assert read_embeddings(tmp_path / "learned_embeds-b-c.safetensors")[0].placeholder_token == "<b/c>"


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_vectors_that_are_no_longer_finite_become_no_file(odd):
    with pytest.raises(OutputError, match="lower --learning_rate"):
        learned_from(np.where(VECTORS == 5, odd, VECTORS))


# ---------------------------------------------------------------------------------------------------------- run.json


def record(folder, concepts, **figures) -> dict:
    """What is written about a run of some concepts."""
    encoder = SimpleNamespace(name="text_encoder", embedding_width=4)
    model = SimpleNamespace(name="m", folder=folder, text_encoders=[encoder], prediction_type="epsilon",
                            vae_name=None)  # fmt: skip
    config = config_of(
        pretrained_model_name_or_path="m", seed=5, hub_token="hf_secret", learning_rate=0.1,
        placeholder_token=[c.placeholder_token for c in concepts], train_data_dir=[c.image_folder for c in concepts],
    )  # fmt: skip
    artifacts.write_run_record(folder, config, StepPlan(7, 2, 3, 0.2), model, concepts, Record({"x": 1} | figures))
    return json.loads((folder / "run.json").read_text())


def test_the_record_holds_no_access_token(tmp_path):
    written = record(tmp_path, [Concept("<a>", 1, "toy", "object", str(tmp_path))])

    assert "hf_secret" not in json.dumps(written) and "hub_token" not in written["settings"]
    assert written["settings"]["learning_rate"] == 0.1
    assert (written["placeholder_token"], written["settings"]["train_data_dir"]) == ("<a>", str(tmp_path))


def test_the_record_of_several_concepts_has_a_value_for_each(tmp_path):
    written = record(tmp_path, [Concept("<a>", 1, "toy", "object", "x"), Concept("<b>", 2, None, "style", "y")])

    assert written["placeholder_token"] == ["<a>", "<b>"] and written["num_vectors"] == [1, 2]
    assert written["initializer_token"] == ["toy", None] and written["learnable_property"] == ["object", "style"]
    assert written["settings"]["train_data_dir"] == ["x", "y"]


def test_the_record_holds_the_step_plan_and_figures_as_json_can(tmp_path):
    written = record(tmp_path, [Concept("<a>")], losses={"0": float("nan"), "1": 0.5})

    plan = {"global_batch": 2, "epoch_samples": 3, "peak_learning_rate": 0.2}
    assert plan.items() <= written["settings"].items()
    assert written["figures"] == {"x": 1, "losses": {"0": None, "1": 0.5}} and written["seed"] == 5


# ---------------------------------------------------------------------------------------------------- periodic saves


def learned(value):
    return learned_from(np.full((3, 4), value, "float32"))


def values(path):
    """The one value that all numbers of a file have."""
    found = {float(x) for one in read_embeddings(path) for x in one.vectors["text_encoder"].ravel()}
    assert len(found) == 1
    return found.pop()


def save(folder, value, step):
    save_embeddings(folder, learned(value), step)


def steps_of(monkeypatch, write, *arguments):
    """How many steps a save has."""
    with monkeypatch.context() as patch:
        disk = FailingDisk(patch)
        write(*arguments)
        return disk.steps


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_periodic_save_that_fails_at_any_step_leaves_good_files_and_the_next_one_succeeds(
    tmp_path, monkeypatch, number
):
    steps = steps_of(monkeypatch, save, tmp_path / "..", 0.0, 1)
    assert steps == 4 * len(("create", "write", "flush", "rename", "flush-folder"))

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
    assert len(said) == 1 and "was gone; it is created again" in said[0]


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
    for error in (ValueError("a fault"), ConceptError("taken"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            saves.attempt(raises, error)


# ------------------------------------------------------------------------------------------------------ the last save


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder in the place of the system's temporary one, and no other one to go to."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.setattr(artifacts, "_other_folders", lambda: [tmp_path / "not there", folder])
    return folder


def test_the_last_save_that_fails_at_any_step_keeps_the_vectors_elsewhere(tmp_path, monkeypatch, elsewhere):
    steps = steps_of(monkeypatch, save_final, tmp_path, learned(0.0))
    assert steps == 3 * 5

    for failing in range(steps):
        folder = tmp_path / str(failing)
        folder.mkdir()
        save_final(folder, learned(1.0))
        disk = FailingDisk(monkeypatch)
        disk.fails = failing.__eq__

        kept, failure = save_somewhere(folder, learned(2.0))

        assert "the disk is full" in str(failure)
        assert kept.parent == elsewhere and kept.name.startswith("textual-inversion-")
        assert [values(kept / name) for name in FINAL_FILES] == [2.0] * 3
        for name in FINAL_FILES:
            assert values(folder / name) in (1.0, 2.0)
        assert temporary_files(tmp_path) == []


def test_the_last_save_goes_to_the_output_folder_and_makes_it_anew(tmp_path, elsewhere):
    kept, failure = save_somewhere(tmp_path / "out", learned(2.0))

    assert failure is None and kept == tmp_path / "out"
    assert sorted(path.name for path in kept.iterdir()) == FINAL_FILES
    assert not list(elsewhere.iterdir())


def test_vectors_that_can_be_kept_nowhere_are_said_to_be_lost(tmp_path, monkeypatch, elsewhere):
    FailingDisk(monkeypatch).fails = lambda step: True

    with pytest.raises(OutputError, match="disk is full.*they are lost"):
        save_somewhere(tmp_path, learned(2.0))
    assert temporary_files(tmp_path) == []


def test_the_systems_temporary_folder_comes_first(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/somewhere")

    assert artifacts._other_folders()[0] == Path("/somewhere")
    assert Path.home() in artifacts._other_folders()


def test_the_last_line_names_the_first_failure_and_where_the_vectors_are(tmp_path):
    failures = [OutputError("cannot write a: full"), OutputError("cannot write b: full")]

    assert str(artifacts.unsaved(failures, tmp_path)) == (
        f"cannot write a: full (and 1 more); the learned vectors are in {tmp_path}"
    )
