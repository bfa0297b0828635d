"""The record beside an embedding is a stranger's too."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textual_inversion.embeddings import run_record
from textual_inversion.embeddings.run_record import read_record, valid_entries

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


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b"{"])
def test_a_damaged_record_is_none(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    assert read_record(tmp_path) == {} == read_record(tmp_path / "nowhere")


def test_a_record_larger_than_any_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(run_record, "MOST_BYTES", 10)
    (tmp_path / "run.json").write_text('{"base_model": "x"}')
    assert read_record(tmp_path) == {}


def test_a_stranger_does_not_choose_where_downloads_are_kept(tmp_path):
    gone = valid_entries({"settings": {"cache_dir": str(tmp_path / "new")}})
    here = valid_entries({"settings": {"cache_dir": str(tmp_path)}})
    assert gone == {"settings": {}} and here["settings"] == {"cache_dir": str(tmp_path)}


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), st.one_of(VALUES, st.dictionaries(st.sampled_from(SETTINGS), VALUES))))
def test_whatever_is_recorded_what_is_left_is_of_the_right_type(record):
    left = valid_entries(record)

    assert all(run_record._RECORD[name](left[name]) for name in run_record._RECORD if name in left)
    own = left.get("settings", {})
    assert isinstance(own, dict)
    assert all(run_record._SETTINGS[name](own[name]) for name in run_record._SETTINGS if name in own)
    assert valid_entries(left) == left
