import struct
import weakref

import numpy as np

from helpers.embedding_samples import assert_same, concept, concept_xl
from textual_inversion.formats.embedding_file import read_embeddings, write_safetensors
from textual_inversion.formats.safetensors_file import (
    SafetensorsFile,
    read_safetensors,
    safetensors_bytes,
    write_tensors,
)


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


def test_the_bytes_of_a_file_stay_as_they_are():
    written = safetensors_bytes({"b": np.float32([[1, 2]]), "a": np.float32(3)}, {"z": "1", "format": "猫"})
    header = (
        '{"__metadata__":{"format":"猫","z":"1"},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},'
        '"b":{"dtype":"F32","shape":[1,2],"data_offsets":[4,12]}}'
    ).encode()
    header += b" " * (-len(header) % 8)
    assert written == struct.pack("<Q", len(header)) + header + struct.pack("<3f", 3, 1, 2)


def test_a_tensor_is_read_only_when_it_is_asked_for():
    data = memoryview(safetensors_bytes({"a": np.ones((2, 3)), "b": np.zeros(1000)}, {"format": "pt"}))
    asked = []

    def read(begin, end):
        asked.append((begin, end))
        return data[begin:end]

    file = SafetensorsFile(len(data), read)
    opened = len(asked)
    assert list(file) == ["a", "b"] and "b" in file and "c" not in file and file.shape("b") == (1000,)
    assert file.metadata == {"format": "pt"} and file.data_types == {"F32"} and len(asked) == opened
    np.testing.assert_array_equal(file["a"], np.ones((2, 3)))
    assert asked[opened:] == [(len(data) - 4024, len(data) - 4000)]


def test_one_tensor_at_a_time_is_in_memory_while_writing(tmp_path):
    alive = []

    def read(name):
        array = np.full((2, 2), ord(name), np.float32)
        assert not [other for other in alive if other() is not None]
        alive.append(weakref.ref(array))
        return array

    with open(tmp_path / "f", "wb") as file:
        write_tensors(file, {"b": (4,), "a": (2, 2)}, read, {})
    tensors, _ = read_safetensors(memoryview((tmp_path / "f").read_bytes()))
    assert {name: array.tolist() for name, array in tensors.items()} == {"a": [[97, 97]] * 2, "b": [98] * 4}
