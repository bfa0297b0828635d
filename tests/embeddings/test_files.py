"""Embedding files, the records beside them, and the base model they belong to."""

import time

import numpy as np
import pytest

from helpers.embedding_samples import learned
from helpers.embedding_samples import stored_with_record as stored
from textual_inversion.embeddings.files import read_concept_files
from textual_inversion.formats.embedding_file import (
    UnusableToken,
)
from textual_inversion.formats.safetensors_file import safetensors_bytes
from textual_inversion.system.errors import EmbeddingFileError, SettingsError


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


@pytest.mark.parametrize("content", ["[]", "{", '"text"', "null", ""])
def test_a_record_that_cannot_be_used_is_no_missing_one(tmp_path, content):
    path = stored(tmp_path / "f.pdparams", learned())
    (tmp_path / "run.json").write_text(content)

    with pytest.raises(EmbeddingFileError, match="the record .*run.json"):
        read_concept_files([path])


def test_one_token_in_two_files_is_refused(tmp_path):
    paths = [stored(tmp_path / name, learned(vectors=2)) for name in ("a.pdparams", "b.pdparams")]

    with pytest.raises(SettingsError, match="<cat-toy> occurs twice in .*a.pdparams, .*b.pdparams.*--rename FILE=NEW"):
        read_concept_files(paths)


def test_a_token_that_is_the_name_of_anothers_vector_is_refused(tmp_path):
    paths = [stored(tmp_path / "a.pdparams", learned("<a>", 2)), stored(tmp_path / "b.pdparams", learned("<a>_1"))]

    with pytest.raises(SettingsError, match="<a>_1 occurs twice"):
        read_concept_files(paths)


def test_a_name_of_heaps_of_marks_is_refused_at_once(tmp_path):
    name = "a" + "\u0301\u0316" * 100_000
    (tmp_path / "f.safetensors").write_bytes(safetensors_bytes({name: np.ones((1, 4), np.float32)}, {}))
    started = time.monotonic()
    with pytest.raises(UnusableToken, match="has 400001 bytes, more than 200; choose another with --rename"):
        read_concept_files([tmp_path / "f.safetensors"])
    assert time.monotonic() - started < 5
