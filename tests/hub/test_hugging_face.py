"""Repositories of a hub on this machine: cached, listed, fetched, and errors in one phrase."""

import pytest
import requests
from huggingface_hub import utils

from helpers.local_hub import LocalHub, use
from textual_inversion.hub import hugging_face
from textual_inversion.hub.hugging_face import HubError, explain

NAME = "me/cat"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with LocalHub() as local:
        use(local, monkeypatch, tmp_path / "cache")
        yield local


@pytest.mark.parametrize("name", ["me/cat", "sd-concepts-library/cat-toy", "a/b.c_d"])
def test_owner_and_name_are_a_repository_id(name):
    assert hugging_face.is_repository_id(name)


@pytest.mark.parametrize("name", ["cat", "a/b/c", "./cat", "/a/b", "~/cat", "a b/c", "me/", "me/cat\n"])
def test_paths_and_single_names_are_none(name):
    assert not hugging_face.is_repository_id(name)


def test_only_the_files_that_are_asked_for_are_fetched_and_then_cached(hub):
    hub.repositories[NAME] = {"unet/config.json": b"{}", "a.bin": b"a", "b.bin": b"b"}

    assert hugging_face.cached(NAME) is None
    assert hugging_face.files_of(NAME) == ["a.bin", "b.bin", "unet/config.json"]
    folder = hugging_face.fetch(NAME, ["a.bin", "unet/config.json"])

    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == {
        "a.bin",
        "unet/config.json",
    }
    asked = len(hub.requests)
    assert hugging_face.cached(NAME) == folder and len(hub.requests) == asked


def test_a_cache_of_ones_own_is_used(hub, tmp_path):
    hub.repositories[NAME] = {"a.bin": b"a"}
    folder = hugging_face.fetch(NAME, ["a.bin"], cache_dir=tmp_path / "mine")

    assert folder.is_relative_to(tmp_path / "mine")
    assert hugging_face.cached(NAME) is None and hugging_face.cached(NAME, cache_dir=tmp_path / "mine") == folder


def test_what_is_no_repository_id_is_not_in_the_cache(hub):
    assert hugging_face.cached("a/b/c") is None


@pytest.mark.slow
@pytest.mark.parametrize("value", ["1", "true", "YES", "On"])
def test_offline_mode_asks_nobody(hub, monkeypatch, value):
    hub.repositories[NAME] = {"a.bin": b"a"}
    monkeypatch.setenv("HF_HUB_OFFLINE", value)

    for call in (lambda: hugging_face.files_of(NAME), lambda: hugging_face.fetch(NAME, ["a.bin"])):
        with pytest.raises(HubError, match="^HF_HUB_OFFLINE forbids downloads$"):
            call()
    assert hub.requests == []


def test_an_unreachable_hub_and_an_unknown_repository_are_told_apart(hub):
    with pytest.raises(HubError, match="no public repository of this name"):
        hugging_face.files_of(NAME)
    hub.refused = {"/api/models": 503}
    with pytest.raises(HubError, match="^the hub answered 503: refused$"):
        hugging_face.files_of(NAME)
    hub.stop()
    with pytest.raises(HubError, match="^the hub cannot be reached$"):
        hugging_face.files_of(NAME)


def response(status):
    answer = requests.Response()
    answer.status_code = status
    return answer


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "phrase"),
    [
        (
            utils.GatedRepoError("x", response=response(403)),
            "access must be requested at https://huggingface.co/me/cat",
        ),
        (utils.RepositoryNotFoundError("x", response=response(404)), "the hub has no public repository of this name"),
        (utils.RevisionNotFoundError("x", response=response(404)), "the hub has no revision v9 of it"),
        (utils.LocalEntryNotFoundError("x"), "the hub cannot be reached"),
        (requests.ReadTimeout("x"), "the hub cannot be reached"),
        (requests.HTTPError("x", response=response(401)), "the hub does not accept the token (401)"),
        (requests.HTTPError("x", response=response(500)), "the hub answered 500"),
        (utils.LocalTokenNotFoundError("long\nadvice"), "there is no token and no earlier login"),
        (caused(RuntimeError("of a file"), requests.ConnectionError("x")), "the hub cannot be reached"),
        (OSError(28, "No space left on device"), "OSError: No space left on device"),
        (RuntimeError("one\ntwo"), "RuntimeError: one"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_an_error_is_one_phrase(error, phrase):
    explained = explain(error, NAME, "v9")
    assert explained.startswith(phrase) and "\n" not in explained


def test_a_long_answer_of_the_hub_is_cut(hub):
    error = utils.HfHubHTTPError("x", response=response(400), server_message="no\n" * 1000)
    assert "\n" not in explain(error) and len(explain(error)) < 250
