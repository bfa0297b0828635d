"""Files of weights from strangers: headers that lie, names that lead elsewhere, endings of every variant. What their
tensors mean is tested in test_weights.py."""

import json
import os
import struct

import numpy as np
import pytest

from helpers.strangers import attacks_by_global
from textual_inversion.models.weight_files import (
    ENCODER_FILES,
    WeightFile,
    candidates,
    indexed_names,
    read_json,
    read_state,
)
from textual_inversion.system import user_files
from textual_inversion.system.errors import BaseModelError


def safetensors(header, values: bytes = bytes(4)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + values


def entry(**changes) -> dict:
    return {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **changes}}


def test_a_sound_file_is_read(tmp_path):
    (tmp_path / "f").write_bytes(safetensors(entry() | {"__metadata__": {"format": "pt"}}, np.float32(3).tobytes()))
    file = WeightFile(tmp_path / "f")
    assert file["w"].tolist() == [3.0] and file.metadata == {"format": "pt"} and file.data_types == {"F32"}


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 100_000, b"[]", b"null", b"{", b"\xff\xfe",
        {"w": 5}, {"w": {}}, {"w": {"dtype": "F32"}},
        entry(shape=5), entry(shape=["1"]), entry(shape=[-1]), entry(shape=[2**60, 2**60]), entry(shape=[2]),
        entry(dtype=["F32"]), entry(dtype=None), entry(dtype="F8_E4M3"),
        entry(data_offsets=[0]), entry(data_offsets=[0, 2**62]), entry(data_offsets=[4, 0]), entry(data_offsets="04"),
        entry() | {"__metadata__": "pt"},
        entry() | {"__metadata__": {"format": ["pt"]}}, entry() | {"__metadata__": [1]},
    ],
)  # fmt: skip
def test_a_header_that_lies_is_an_error_that_names_the_file(tmp_path, header):
    (tmp_path / "model.safetensors").write_bytes(safetensors(header))
    with pytest.raises(BaseModelError, match=r"model.safetensors"):
        WeightFile(tmp_path / "model.safetensors")["w"]


@pytest.mark.parametrize("index", ["", "[]", "{}", '{"weight_map": 5}', '{"weight_map": {"a": 5}}', "[" * 100_000])
def test_a_damaged_index_is_named(tmp_path, index):
    (tmp_path / "model.safetensors.index.json").write_text(index)
    faults = "names no files|is no readable JSON .*|lacks weight_map|holds .* as .*, which should .*"
    with pytest.raises(BaseModelError, match=rf"index.json ({faults}); download the model again"):
        indexed_names(tmp_path / "model.safetensors.index.json")


def test_an_index_does_not_lead_out_of_its_folder(tmp_path):
    (tmp_path / "secret.safetensors").write_bytes(safetensors(entry()))
    (tmp_path / "part").mkdir()
    (tmp_path / "part/model.safetensors.index.json").write_text('{"weight_map": {"w": "../secret.safetensors"}}')
    with pytest.raises(BaseModelError, match="secret.safetensors, which .*index.json names, is missing"):
        read_state(tmp_path / "part", ENCODER_FILES)


def test_safetensors_come_before_pickles_and_the_wanted_variant_first(tmp_path):
    (tmp_path / "model_state.pdparams").write_bytes(attacks_by_global(tmp_path / "mark")["os.system"][0])
    with pytest.raises(BaseModelError, match="asks for os.system"):
        read_state(tmp_path, ENCODER_FILES)
    (tmp_path / "model.safetensors").write_bytes(safetensors(entry()))
    assert read_state(tmp_path, ENCODER_FILES).source.name == "model.safetensors"
    (tmp_path / "model.fp16.safetensors").write_bytes(safetensors(entry()))
    assert read_state(tmp_path, ENCODER_FILES, variant="fp16").source.name == "model.fp16.safetensors"
    assert next(candidates(ENCODER_FILES, "fp16")) == ("model.fp16.safetensors", False)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff", b"[" * 100_000, b"NaN"])
def test_json_of_a_base_model_is_an_object_or_an_error(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(BaseModelError, match="config.json .*download the model again"):
        read_json(tmp_path / "config.json")


def test_a_small_file_that_is_large_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    path.write_text("{}")
    os.truncate(path, 300 << 20)
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("it was opened"))

    with pytest.raises(BaseModelError, match=r"config.json cannot be read .it has 300 MiB, and at most 16 MiB are"):
        read_json(path)


def test_a_file_that_may_not_be_read_is_named_with_its_permissions(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    path.write_text("{}")
    monkeypatch.setattr(user_files, "read_bytes", denied)

    with pytest.raises(BaseModelError, match=r"config.json cannot be read \(Permission denied\); change its perm"):
        read_json(path)


def denied(path, most):
    """Root, as which tests may run, can read every file."""
    raise PermissionError(13, "Permission denied", str(path))
