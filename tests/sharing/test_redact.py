"""What others see of a run's files."""

import os

import numpy as np
import pytest
import yaml

from textual_inversion.formats.embedding_file import LearnedEmbedding, read_embeddings, write_safetensors
from textual_inversion.sharing.redact import is_local_path, put_public_copy, without_local_paths
from textual_inversion.system.errors import OutputError


def test_absolute_paths_are_cut_to_their_last_name_at_any_depth():
    record = {"a": ["/home/ann/cats", {"b": "C:\\Users\\Ann\\cats", "c": "~/x"}], "d": 5, "e": None}
    assert without_local_paths(record) == {"a": ["cats", {"b": "cats", "c": "x"}], "d": 5, "e": None}


@pytest.mark.parametrize(
    "text", ["CompVis/stable-diffusion-v1-4", "demo/model", "a photo of a <cat-toy> and/or", "", "../x"]
)
def test_names_and_prompts_stay(text):
    assert not is_local_path(text) and without_local_paths(text) == text


def test_a_configuration_stays_one(tmp_path):
    lines = "train_data_dir:\n- /home/ann/my photos\n- 'C:\\a\\b'\nlearning_rate: 0.1\n# clip_model: /x/y\n"
    (tmp_path / "config.yaml").write_text(lines)

    put_public_copy(tmp_path / "config.yaml", tmp_path / "up" / "config.yaml")

    text = (tmp_path / "up" / "config.yaml").read_text()
    assert yaml.safe_load(text) == {"train_data_dir": ["my photos", "b"], "learning_rate": 0.1}
    assert "# clip_model: y\n" in text and "ann" not in text


def test_an_embedding_keeps_its_vectors_and_a_repository_id_but_no_folder(tmp_path):
    vectors = np.ones((2, 4), np.float32)
    for base, kept in (("/home/ann/sd", None), ("CompVis/sd", "CompVis/sd")):
        one = LearnedEmbedding("<a>", {"text_encoder": vectors}, {"base_model": base, "steps": "3"})
        write_safetensors(tmp_path / "learned_embeds.safetensors", one)
        put_public_copy(tmp_path / "learned_embeds.safetensors", tmp_path / "up.safetensors")
        (read,) = read_embeddings(tmp_path / "up.safetensors")
        assert (read.placeholder_token, read.metadata.get("base_model"), read.metadata["steps"]) == ("<a>", kept, "3")
        np.testing.assert_array_equal(read.vectors["text_encoder"], vectors)
        assert b"ann" not in (tmp_path / "up.safetensors").read_bytes()


def test_other_files_are_second_names_of_the_same(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"x")
    put_public_copy(tmp_path / "a.png", tmp_path / "up" / "samples" / "a.png")
    assert (tmp_path / "a.png").samefile(tmp_path / "up/samples/a.png")

    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("another disk")))
    put_public_copy(tmp_path / "a.png", tmp_path / "b.png")
    assert (tmp_path / "b.png").read_bytes() == b"x" and not (tmp_path / "a.png").samefile(tmp_path / "b.png")


def test_a_damaged_record_is_not_sent(tmp_path):
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(OutputError, match="run.json is damaged and cannot be uploaded"):
        put_public_copy(tmp_path / "run.json", tmp_path / "up.json")
