"""Which base model embedding files were learned on, and how far their records are believed."""

import numpy as np
import pytest

from helpers.embedding_samples import learned
from helpers.embedding_samples import stored_with_record as stored
from helpers.torch_samples import TORCH_FILES
from textual_inversion.embeddings.files import read_concept_files
from textual_inversion.embeddings.learned_on import base_model_notes, base_model_of, doubted_records
from textual_inversion.formats.embedding_file import (
    write_safetensors,
)
from textual_inversion.formats.safetensors_file import safetensors_bytes
from textual_inversion.settings.generation import BaseModelSettings
from textual_inversion.system.errors import EmbeddingFileError, SettingsError
from textual_inversion.system.paths import DEMO_MODEL, ROOT


def test_metadata_of_safetensors_step_in(tmp_path):
    write_safetensors(tmp_path / "f.safetensors", learned(learnable_property="style", base_model="CompVis/sd"))

    (file,) = read_concept_files([tmp_path / "f.safetensors"])

    assert file.learnable_property("<cat-toy>") == "style"
    assert base_model_of([file]) == "CompVis/sd"


def test_a_name_in_the_metadata_that_can_be_none_is_no_missing_one(tmp_path):
    for number, name in enumerate(("", "x" * 300, "//host/share")):
        write_safetensors(tmp_path / f"{number}.safetensors", learned(base_model=name))
        with pytest.raises(EmbeddingFileError, match="as base_model, which no run writes"):
            base_model_of(read_concept_files([tmp_path / f"{number}.safetensors"]))


@pytest.mark.parametrize("metadata", [{"base_model": "SD 1.5"}, {"ss_sd_model_name": "evil/model"}])
def test_what_another_program_says_is_a_hint_and_no_path(tmp_path, monkeypatch, metadata):
    monkeypatch.chdir(tmp_path)
    (tmp_path / next(iter(metadata.values()))).mkdir(parents=True)  # even where it is the name of a folder here
    (tmp_path / "f.safetensors").write_bytes(safetensors_bytes({"<cat>": np.ones((1, 32), np.float32)}, metadata))
    files = read_concept_files(["f.safetensors"])

    with pytest.raises(SettingsError) as caught:
        base_model_of(files)
    hint = next(iter(metadata.values()))
    assert f"f.safetensors says that it was learned on {hint}; name that model with --pretrained" in str(caught.value)
    assert base_model_of(files, "named/one") == "named/one" and doubted(files) is None


def test_the_checkpoint_that_automatic1111_notes_is_a_hint(tmp_path):
    (tmp_path / "f.pt").write_bytes(TORCH_FILES["a1111_pt"])
    with pytest.raises(SettingsError, match="says that it was learned on v1-5-pruned; name that model"):
        base_model_of(read_concept_files([tmp_path / "f.pt"]))


def doubted(files, **given):
    return doubted_records(files, BaseModelSettings(**given))["recorded_in"]


def test_a_record_is_doubted_unless_the_user_names_the_model_or_trusts_it(tmp_path):
    record = dict(placeholder_token="<cat-toy>", base_model="some/model")
    files = read_concept_files([stored(tmp_path / "f.pdparams", learned(), record=record)])
    (tmp_path / "m").mkdir()
    write_safetensors(tmp_path / "m/f.safetensors", learned(base_model="some/model"))
    described = read_concept_files([tmp_path / "m/f.safetensors"])

    assert doubted(files) == tmp_path / "run.json" and doubted(described) == tmp_path / "m/f.safetensors"
    assert doubted(files, pretrained_model_name_or_path="x/y") is None is doubted(files, trust_record=True)
    record = tmp_path / "run.json"
    each = doubted_records(files, BaseModelSettings(tokenizer_name="my/own"))
    assert each == {"recorded_in": record, "tokenizer_recorded_in": None, "vae_recorded_in": record}
    each = doubted_records(files, BaseModelSettings(vae="my/own"))
    assert each == {"recorded_in": record, "tokenizer_recorded_in": record, "vae_recorded_in": None}


def test_the_base_model_that_nobody_named_is_told(tmp_path):
    record = dict(placeholder_token="<cat-toy>", base_model="some/model")
    recorded = read_concept_files([stored(tmp_path / "a/f.pdparams", learned(), record=record)])
    silent = read_concept_files([stored(tmp_path / "b/f.pdparams", learned())])

    assert base_model_notes(recorded, "some/model", None) == [
        f"base model some/model, as {tmp_path / 'a/run.json'} says"
    ]
    (note,) = base_model_notes(silent, str(DEMO_MODEL), None)
    assert "f.pdparams does not say which base model it was learned on; the demo's is used" in note
    assert base_model_notes(silent, "x/y", "x/y") == []
    assert base_model_notes(read_concept_files([ROOT / "demo/learned_embeds.pdparams"]), str(DEMO_MODEL), None) == []


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


@pytest.mark.parametrize("name", ["/nowhere/sd", "~/sd", "./sd", "C:/models/sd", "a/b/c", "local:" + "a" * 64])
def test_a_base_model_that_is_gone_is_named(tmp_path, name):
    record = dict(placeholder_token="<cat-toy>", base_model=name)
    files = read_concept_files([stored(tmp_path / "f.pdparams", learned(), record=record)])

    with pytest.raises(SettingsError, match=r"run.json was learned on .*, which does not exist; name it with --pretr"):
        base_model_of(files)


def test_files_of_different_models_are_refused(tmp_path):
    files = []
    for token in ("<a>", "<b>"):
        record = dict(placeholder_token=token, base_model=f"hub/{token[1]}")
        files += read_concept_files([stored(tmp_path / token[1] / "f.pdparams", learned(token), record=record)])

    with pytest.raises(SettingsError, match="hub/a and .* on hub/b"):
        base_model_of(files)


def test_a_hint_beside_a_record_is_told(tmp_path):
    record = dict(placeholder_token="<cat-toy>", base_model=str(tmp_path))
    files = read_concept_files([stored(tmp_path / "f.pdparams", learned(), record=record)])
    (tmp_path / "a").mkdir()
    (tmp_path / "a/g.pt").write_bytes(TORCH_FILES["a1111_pt"])
    files += read_concept_files([tmp_path / "a/g.pt"])
    base_model = base_model_of(files)
    assert base_model_notes(files, base_model, None) == [
        f"{tmp_path / 'a/g.pt'} says that it was learned on v1-5-pruned; {base_model} is used"
    ]
