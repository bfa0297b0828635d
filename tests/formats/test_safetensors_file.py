import numpy as np

from helpers.embedding_samples import assert_same, concept, concept_xl
from textual_inversion.formats.embedding_file import read_embeddings, write_safetensors


def test_safetensors_comes_back_with_its_metadata(tmp_path):
    write_safetensors(tmp_path / "f", concept(base_model="sd", steps="500"))
    (read,) = read_embeddings(tmp_path / "f")
    assert_same(read, concept())
    assert (read.metadata["base_model"], read.metadata["steps"], read.source) == ("sd", "500", str(tmp_path / "f"))


def test_safetensors_of_two_encoders_keeps_the_token(tmp_path):
    write_safetensors(tmp_path / "f", concept_xl("<xl>"))
    (read,) = read_embeddings(tmp_path / "f")
    assert_same(read, concept_xl("<xl>"))


def test_the_safetensors_package_reads_ours(tmp_path):
    from safetensors import safe_open

    write_safetensors(tmp_path / "f.safetensors", concept("猫", base_model="sd"))
    with safe_open(tmp_path / "f.safetensors", framework="np") as file:
        assert file.metadata() == {"format": "pt", "placeholder_token": "猫", "base_model": "sd"}
        np.testing.assert_array_equal(file.get_tensor("猫"), concept().vectors["text_encoder"])
