"""Data sets of a hub on this machine: named, listed, bounded, fetched."""

import pytest

from helpers.local_hub import COMMIT, LocalHub, use
from textual_inversion.hub import data_sets
from textual_inversion.hub.data_sets import DataSet, chosen, fetch, parsed, sizes_of
from textual_inversion.hub.hugging_face import HubError

CATS = DataSet("me/cats")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with LocalHub() as local:
        use(local, monkeypatch, tmp_path / "cache")
        local.repositories["datasets/me/cats"] = {"0.png": b"png", "0.txt": b"a cat", "run.py": b"x", "big.png": b"big"}
        yield local


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hub:me/cats", CATS),
        ("hub:me/cats/10_cat toy/more", DataSet("me/cats", "10_cat toy/more")),
        ("hub:me/cats@v1.0", DataSet("me/cats", "", "v1.0")),
        ("hub:me/cats/a@refs/pr/1", DataSet("me/cats", "a", "refs/pr/1")),
    ],
)
def test_a_name_has_its_parts(name, expected):
    assert parsed(name) == expected
    assert parsed(expected.at("c0")) == DataSet(expected.repository, expected.folder, "c0")


@pytest.mark.parametrize(
    "name",
    ["hub:cats", "hub:../x", "hub:me/..", "hub:me/cats/../..", "hub:me/cats/", "hub:me/cats@", "hub:me/cats@a..b"],
)
def test_what_leads_elsewhere_or_nowhere_is_no_name(name):
    assert parsed(name) is None


def test_wanted_files_alone_are_fetched_into_the_folder_of_their_commit_and_found_again(hub):
    assert data_sets.cached(CATS) is None

    files = chosen(CATS, sizes_of(CATS), lambda name: name.startswith("0"))
    folder = fetch(CATS, files)

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"0.png": b"png", "0.txt": b"a cat"}
    assert folder.name == COMMIT and data_sets.cached(CATS) == folder
    assert not any("run.py" in request or "big" in request for request in hub.requests)


def test_files_that_are_too_large_too_many_or_lead_elsewhere_are_refused_before_anything_is_fetched(hub, monkeypatch):
    hub.said_sizes["big.png"] = data_sets.MOST_OF_ONE + 1
    with pytest.raises(HubError, match="its file big.png has 512.* more than 512"):
        chosen(CATS, sizes_of(CATS), lambda name: True)
    with pytest.raises(HubError, match="would lie outside the folder of downloads"):
        chosen(CATS, {"a/../../b.png": 1}, lambda name: True)
    monkeypatch.setattr(data_sets, "MOST_FILES", 2)
    with pytest.raises(HubError, match="its 3 files have .* name a folder of it"):
        chosen(CATS, {"a": 1, "b": 1, "c": 1}, lambda name: True)
    assert not any("/resolve/" in request for request in hub.requests)


def test_a_file_that_is_larger_than_was_said_ends_it(hub, monkeypatch):
    monkeypatch.setattr(data_sets, "MOST_OF_ONE", 2)

    with pytest.raises(HubError, match="its file 0.png is larger than the hub has said"):
        fetch(CATS, ["0.png"])


def test_a_data_set_that_is_not_there_is_said(hub):
    with pytest.raises(HubError, match="the hub has no public repository of this name"):
        sizes_of(DataSet("me/none"))
