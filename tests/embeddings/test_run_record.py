"""The record beside an embedding is a stranger's too."""

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textual_inversion.embeddings import run_record
from textual_inversion.embeddings.run_record import read_record, valid_entries
from textual_inversion.system.errors import EmbeddingFileError

VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(["en", "object", "/x", "a\0b", ""])
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2)
    ),
    max_leaves=5,
)
NAMES = [*run_record._RECORD, "settings", "other"]
SETTINGS = [*run_record._SETTINGS, "other"]


def test_a_valid_record_stays_as_it_is(tmp_path):
    record = {
        "base_model": "CompVis/stable-diffusion-v1-4",
        "placeholder_token": ["<a>", "<b>"],
        "initializer_token": ["toy", None],
        "learnable_property": ["object", "style"],
        "settings": {"language": "zh", "height": 512, "resize_mode": "bucket", "train_data_dir": "x", "seed": 3},
        "figures": {"any": ["thing"]},
    }
    (tmp_path / "run.json").write_text(json.dumps(record))

    assert read_record(tmp_path) == record


@pytest.mark.parametrize("mark", ["\ufeff", ""])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_a_byte_order_mark_does_no_harm(tmp_path, mark, encoding):
    (tmp_path / "run.json").write_bytes(f'{mark}{{"placeholder_token": "<猫>"}}'.encode(encoding))
    assert read_record(tmp_path) == {"placeholder_token": "<猫>"}


def test_without_a_record_there_is_none(tmp_path):
    assert read_record(tmp_path) == {} == read_record(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"[]", "holds a list"),
        (b"null", "holds nothing"),
        (b"5", "holds a number"),
        (b"\xff\xfe", "no readable JSON"),
        (b"[" * 100_000, "no readable JSON"),
        (b'{\n"base_model": }', "no readable JSON (line 2: Expecting value)"),
        (b"{}", "does not say which concepts it is about"),
        (b'{"base_model": "/x"}', "does not say which concepts it is about"),
        (b'{"placeholder_token": 5}', "holds 5 as placeholder_token"),
        (b'{"placeholder_token": "<a>", "base_model": ["/x"]}', "holds a list as base_model"),
        (b'{"placeholder_token": "<a>", "base_model": ""}', "holds '' as base_model"),
        (b'{"placeholder_token": "<a>", "base_model": "//host/share/sd"}', "holds '//host/share/sd' as base_model"),
        (b'{"placeholder_token": "<a>", "settings": "x"}', "holds a text under settings"),
        (b'{"placeholder_token": "<a>", "settings": {"height": "64"}}', "holds '64' as settings.height"),
        (b'{"placeholder_token": "<a>", "settings": {"variant": "../x"}}', "holds '../x' as settings.variant"),
        (b'{"placeholder_token": "<a>", "settings": {"train_data_dir": {}}}', "an object as settings.train_data_dir"),
    ],
)
def test_a_record_that_cannot_be_used_is_named(tmp_path, content, words):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(EmbeddingFileError) as caught:
        read_record(tmp_path)
    assert words in str(caught.value) and str(caught.value).isprintable()
    assert str(caught.value).startswith(f"the record {tmp_path / 'run.json'} ") and run_record.WAY_OUT in str(
        caught.value
    )


def test_what_lies_in_the_place_of_a_record_is_named(tmp_path):
    places = {name: tmp_path / name for name in ("folder", "pipe", "nowhere", "device")}
    for folder in places.values():
        folder.mkdir()
    (places["folder"] / "run.json").mkdir()
    os.mkfifo(places["pipe"] / "run.json")
    (places["nowhere"] / "run.json").symlink_to("gone")
    (places["device"] / "run.json").symlink_to("/dev/zero")

    for name, folder in places.items():
        words = "No such file" if name == "nowhere" else f"it is a (named )?{name}, not a regular file"
        with pytest.raises(EmbeddingFileError, match=words):
            read_record(folder)


def test_a_record_larger_than_any_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(run_record, "MOST_BYTES", 10)
    (tmp_path / "run.json").write_text('{"base_model": "x"}')
    with pytest.raises(EmbeddingFileError, match="far more than a run writes"):
        read_record(tmp_path)


def test_what_a_run_left_unset_is_missing():
    record = {"placeholder_token": "<a>", "initializer_token": None, "settings": {"variant": None, "height": 64}}
    assert valid_entries(record) == {"placeholder_token": "<a>", "settings": {"height": 64}}


def test_a_stranger_does_not_choose_where_downloads_are_kept(tmp_path):
    def left(folder):
        return valid_entries({"placeholder_token": "<a>", "settings": {"cache_dir": str(folder)}})["settings"]

    assert left(tmp_path / "new") == {} and left(tmp_path) == {"cache_dir": str(tmp_path)}


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), st.one_of(VALUES, st.dictionaries(st.sampled_from(SETTINGS), VALUES))))
def test_whatever_is_recorded_what_is_left_is_of_the_right_type(record):
    try:
        left = valid_entries({"placeholder_token": "<a>", **record})
    except EmbeddingFileError as error:
        assert str(error).isprintable()
        return

    assert all(run_record._RECORD[name](left[name]) for name in run_record._RECORD if name in left)
    own = left.get("settings", {})
    assert isinstance(own, dict)
    assert all(run_record._SETTINGS[name](own[name]) for name in run_record._SETTINGS if name in own)
    assert valid_entries(left) == left


def test_bytes_that_are_no_text_pass_in_paths_and_in_nothing_else(tmp_path):
    record = {"placeholder_token": "<x>", "settings": {"train_data_dir": ["a\udce9"]}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert read_record(tmp_path)["settings"]["train_data_dir"] == ["a\udce9"]

    for changed in ({"placeholder_token": "<x\udce9>"}, {"initializer_token": "toy\udce9"}):
        (tmp_path / "run.json").write_text(json.dumps(record | changed))
        with pytest.raises(EmbeddingFileError, match="which no run writes"):
            read_record(tmp_path)
