"""Embedding files, the records beside them, and the base model they belong to."""

import json

import numpy as np
import pytest

from textual_inversion.embeddings.files import base_model_of, read_concept_files
from textual_inversion.formats.embedding_file import LearnedEmbedding, write_pdparams, write_safetensors
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.paths import DEMO_MODEL


def learned(token="<cat-toy>", vectors=1, width=32, seed=1, **metadata):
    values = np.random.default_rng(seed).standard_normal((vectors, width)).astype(np.float32)
    return LearnedEmbedding(token, {"text_encoder": values}, metadata)


def stored(path, *concepts, record=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_pdparams(path, concepts)
    if record is not None:
        (path.parent / "run.json").write_text(json.dumps(record))
    return path


def test_the_record_beside_a_file_counts_if_it_is_about_its_concept(tmp_path):
    record = dict(placeholder_token="<cat-toy>", learnable_property="style", base_model="some/model")
    own = stored(tmp_path / "a/learned.pdparams", learned(), record=record)
    foreign = stored(tmp_path / "a/other.pdparams", learned("<dog>"))

    first, second = read_concept_files([own, foreign])

    assert first.learnable_property("<cat-toy>") == "style" and first.recorded("base_model") == "some/model"
    assert second.learnable_property("<dog>") == "object" and second.recorded("base_model") is None


def test_records_of_several_concepts_are_told_apart(tmp_path):
    record = dict(placeholder_token=["<a>", "<b>"], learnable_property=["object", "style"])
    (file,) = read_concept_files([stored(tmp_path / "f.pdparams", learned("<a>"), learned("<b>"), record=record)])

    assert (file.learnable_property("<a>"), file.learnable_property("<b>")) == ("object", "style")


def test_metadata_of_safetensors_step_in(tmp_path):
    write_safetensors(tmp_path / "f.safetensors", learned(learnable_property="style", base_model="CompVis/sd"))

    (file,) = read_concept_files([tmp_path / "f.safetensors"])

    assert file.learnable_property("<cat-toy>") == "style"
    assert base_model_of([file]) == "CompVis/sd"


@pytest.mark.parametrize("content", ["[]", "{", '"text"', "null"])
def test_a_damaged_record_is_no_record(tmp_path, content):
    path = stored(tmp_path / "f.pdparams", learned())
    (tmp_path / "run.json").write_text(content)

    assert read_concept_files([path])[0].run == {}


def test_where_the_base_model_is_looked_for(tmp_path):
    (tmp_path / "model").mkdir()
    record = dict(placeholder_token="<cat-toy>", base_model=str(tmp_path / "model"))
    recorded = read_concept_files([stored(tmp_path / "a/f.pdparams", learned(), record=record)])
    silent = read_concept_files([stored(tmp_path / "b/f.pdparams", learned())])

    assert base_model_of(recorded, "named/one") == "named/one"
    assert base_model_of(recorded) == str((tmp_path / "model").resolve())
    assert base_model_of(silent) == str(DEMO_MODEL)


def test_the_demo_model_is_found_from_another_clones_record(tmp_path):
    for name in ("demo/model", "/another/clone/demo/model", "local:demo"):
        record = dict(placeholder_token="<cat-toy>", base_model=name)
        files = read_concept_files([stored(tmp_path / "f.pdparams", learned(), record=record)])
        assert base_model_of(files) == str(DEMO_MODEL.resolve())


@pytest.mark.parametrize("name", ["/nowhere/sd", "local:" + "a" * 64])
def test_a_base_model_that_is_gone_or_was_local_elsewhere_is_named(tmp_path, name):
    record = dict(placeholder_token="<cat-toy>", base_model=name)
    files = read_concept_files([stored(tmp_path / "f.pdparams", learned(), record=record)])

    with pytest.raises(SettingsError, match=f"{name}, which does not exist.*--pretrained_model_name_or_path"):
        base_model_of(files)


def test_files_of_different_models_are_refused(tmp_path):
    files = []
    for token in ("<a>", "<b>"):
        record = dict(placeholder_token=token, base_model=f"hub/{token[1]}")
        files += read_concept_files([stored(tmp_path / token[1] / "f.pdparams", learned(token), record=record)])

    with pytest.raises(SettingsError, match="hub/a and .* on hub/b"):
        base_model_of(files)


def test_one_token_in_two_files_is_refused(tmp_path):
    paths = [stored(tmp_path / name, learned(vectors=2)) for name in ("a.pdparams", "b.pdparams")]

    with pytest.raises(SettingsError, match="<cat-toy> occurs twice in .*a.pdparams, .*b.pdparams"):
        read_concept_files(paths)


def test_a_token_that_is_the_name_of_anothers_vector_is_refused(tmp_path):
    paths = [stored(tmp_path / "a.pdparams", learned("<a>", 2)), stored(tmp_path / "b.pdparams", learned("<a>_1"))]

    with pytest.raises(SettingsError, match="<a>_1 occurs twice"):
        read_concept_files(paths)
