"""Names of repositories on AI Studio, and where their downloads lie."""

from pathlib import Path

import pytest

from textual_inversion.hub import aistudio


@pytest.mark.parametrize("name", ["aistudio:me/cat", "aistudio:a/b.c_d-e", "aistudio:用户/猫"])
def test_the_prefix_an_owner_and_a_name(name):
    assert aistudio.is_name(name)


@pytest.mark.parametrize(
    "name", ["me/cat", "aistudio:cat", "aistudio:", "aistudio:../x", "aistudio:a/b/c", "aistudio:me/..", "AIStudio:a/b"]
)
def test_all_else_is_none(name):
    assert not aistudio.is_name(name)


def test_each_owner_and_each_revision_has_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))

    names = [("a/x", None), ("b/x", None), ("a/x", "v2"), ("a/x", "feature/one"), ("a/x", "../../..")]
    folders = {aistudio.folder_of(name, revision, None) for name, revision in names}

    assert len(folders) == len(names)
    assert {folder.resolve().parents[1].name for folder in folders} == {"a", "b"}
    assert aistudio.folder_of("a/x", None, "/mine") == Path("/mine/aistudio/a/x/master")
    assert aistudio.folder_of("../x", None, "/mine") is None


def test_nothing_is_cached_at_first(tmp_path):
    assert aistudio.cached("a/x", cache_dir=tmp_path) is None
    (tmp_path / "aistudio/a/x/master").mkdir(parents=True)
    assert aistudio.cached("a/x", cache_dir=tmp_path) == tmp_path / "aistudio/a/x/master"
