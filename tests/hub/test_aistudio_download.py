"""Files of a repository on AI Studio: listed, fetched whole or not at all, and errors in one phrase."""

import json

import pytest

from helpers.local_aistudio import COMMIT, TOKEN, LocalAIStudio, use
from textual_inversion.hub import aistudio, bounded_answers
from textual_inversion.hub.aistudio_download import fetch, files_of
from textual_inversion.hub.hugging_face import HubError

NAME = "me/cat"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with LocalAIStudio() as local:
        use(local, monkeypatch, tmp_path / "home", token=None)
        yield local


def test_only_what_is_asked_for_is_fetched_and_then_cached(hub, tmp_path):
    content = b"x" * (bounded_answers.MOST_BYTES + 1)  # files may be longer than answers
    hub.repositories[NAME] = {"a.bin": b"a", "unet/config.json": b"{}", "unet/model.safetensors": content, "b.bin": b""}

    assert files_of(NAME) == ["a.bin", "b.bin", "unet/config.json", "unet/model.safetensors"]
    folder = fetch(NAME, ["a.bin", "unet/model.safetensors"])

    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == {"a.bin": b"a", "unet/model.safetensors": content}
    assert aistudio.cached(NAME) == folder and folder.is_relative_to(tmp_path / "home/.cache/textual_inversion")
    asked = len(hub.requests)
    assert fetch(NAME, ["a.bin"]) == folder and len(hub.requests) == asked


def test_a_revision_and_a_cache_of_ones_own(hub, tmp_path):
    hub.repositories[NAME] = {"a.bin": b"a"}

    assert files_of(NAME, revision=COMMIT) == ["a.bin"]
    folder = fetch(NAME, ["a.bin"], revision=COMMIT, cache_dir=tmp_path / "mine")
    assert folder.is_relative_to(tmp_path / "mine") and aistudio.cached(NAME) is None
    with pytest.raises(HubError, match="no public repository of this name, or no revision v9 of it"):
        files_of(NAME, revision="v9")


def test_what_nobody_is_to_see_is_not_listed(hub, monkeypatch):
    hub.repositories |= {NAME: {"a.bin": b"a"}, "me/private": {"a.bin": b"a"}}
    hub.private.add("me/private")

    hub.hidden.add(NAME)
    with pytest.raises(HubError, match=r"no public repository of this name \(no permit\)"):
        files_of(NAME)
    monkeypatch.setenv("SKIP_REPO_VISIBLE_CHECK", "true")
    assert files_of(NAME) == ["a.bin"]
    with pytest.raises(HubError, match="no public repository of this name"):
        files_of("me/private")
    monkeypatch.setenv("AISTUDIO_ACCESS_TOKEN", TOKEN)
    assert files_of("me/private") == ["a.bin"]


@pytest.mark.parametrize("cut", ["a.bin", "unet/b.bin"])
def test_half_a_file_is_none(hub, tmp_path, cut):
    hub.repositories[NAME] = {"a.bin": b"a" * 1000, "unet/b.bin": b"b" * 1000}
    hub.cut = (cut,)

    with pytest.raises(HubError, match="broke off|cannot be reached") as refusal:
        fetch(NAME, ["a.bin", "unet/b.bin"])

    assert "\n" not in str(refusal.value)
    left = {path.name for path in (tmp_path / "home").rglob("*") if path.is_file()}
    assert left == ({"a.bin"} if cut == "unet/b.bin" else set())
    hub.cut = ()
    assert (fetch(NAME, ["a.bin", "unet/b.bin"]) / cut).stat().st_size == 1000


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
def test_an_error_is_not_kept_as_the_file(hub, tmp_path, status):
    hub.repositories[NAME] = {"a.bin": b"a"}
    hub.refused = {"/media/": status}

    with pytest.raises(HubError, match=r"no file a.bin in it|\(40[13]\)|answered 50[03]$"):
        fetch(NAME, ["a.bin"])

    assert not [path for path in (tmp_path / "home").rglob("*") if path.is_file()]


@pytest.mark.parametrize("path", ["../evil", "/etc/evil", "a/../../evil", "a//b", "", ".", "a\\..\\b", "a\nb", "a\0b"])
def test_a_file_that_would_lie_elsewhere_is_not_fetched(hub, tmp_path, path):
    hub.repositories[NAME] = {path: b"x"}

    with pytest.raises(HubError, match="would lie outside the folder of downloads") as refusal:
        fetch(NAME, [path])

    assert "\n" not in str(refusal.value) and not list(tmp_path.rglob("*evil*"))
    assert not [line for line in hub.requests if "/media/" in line]


WRONG = [b"[]", b"7", b'{"tree": 7}', b'{"tree": [7]}', b'{"tree": [{"path": 7, "type": "blob", "sha": "x"}]}',
         b'{"tree": [{"path": "a"}]}', b"[" * 9999]  # fmt: skip


@pytest.mark.parametrize("answer", WRONG)
def test_a_list_that_is_none_is_refused(hub, answer):
    hub.repositories[NAME] = {}
    hub.answers = {"/git/trees/": answer}

    with pytest.raises(HubError, match="gave an answer that cannot be used"):
        files_of(NAME)


def test_a_list_that_never_ends_is_left(hub):
    hub.repositories[NAME] = {}
    hub.answers = {"/git/trees/": json.dumps({"tree": [], "truncated": True}).encode()}

    with pytest.raises(HubError, match="has more than 10,000 files"):
        files_of(NAME)


def test_a_folder_that_cannot_be_written_is_named(hub, tmp_path):
    hub.repositories[NAME] = {"a.bin": b"a"}
    (tmp_path / "file").write_text("")

    with pytest.raises(HubError, match="its download cannot be kept .*file"):
        fetch(NAME, ["a.bin"], cache_dir=tmp_path / "file")


def test_offline_and_unreachable(hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for call in (lambda: files_of(NAME), lambda: fetch(NAME, ["a.bin"])):
        with pytest.raises(HubError, match="^HF_HUB_OFFLINE forbids downloads$"):
            call()
    assert hub.requests == []
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    hub.stop()
    for call in (lambda: files_of(NAME), lambda: fetch(NAME, ["a.bin"])):
        with pytest.raises(HubError, match="^AI Studio cannot be reached$"):
            call()
