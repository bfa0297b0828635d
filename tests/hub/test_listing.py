"""What an owner, a collection and a repository of a hub on this machine hold, by names alone."""

import time

import pytest

from helpers import local_aistudio
from helpers.local_hub import LocalHub, use
from hub.test_bounded_answers import answering, dripping, endless
from textual_inversion.hub import listing
from textual_inversion.hub.hugging_face import HubError
from textual_inversion.hub.listing import Listed, Listing, is_listable, listed

SLUG = "me/toys-64f9a55bb3115b4f513ec026"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with LocalHub() as local:
        use(local, monkeypatch, tmp_path / "cache")
        local.repositories = {f"me/{n}": {"learned_embeds.bin": b"x", f"{n}.txt": b""} for n in range(5)}
        local.repositories["you/cat"] = {"learned_embeds.bin": b"x"}
        yield local


def of(*numbers):
    return tuple(Listed(f"me/{n}", (f"{n}.txt", "learned_embeds.bin")) for n in numbers)


def test_an_owner_has_all_of_the_pages_and_no_more_than_is_asked_for(hub):
    assert listed("me", most=10) == Listing(of(0, 1, 2, 3, 4), has_more=False)
    hub.requests.clear()
    assert listed("me", most=2) == Listing(of(0, 1), has_more=True)
    assert hub.requests == ["GET /api/models"] * 2  # of the third page nothing is wanted
    assert listed("me", most=5).has_more is False
    assert listed("nobody", most=5) == Listing(())


def test_a_collection_has_its_models_and_says_which_it_cannot_show(hub):
    hub.collections[SLUG] = [("me/3", "model"), ("me/gone", "model"), ("me/data", "dataset"), ("me/1", "model"),
                             ("../evil", "model"), ("me/3", "model")]  # fmt: skip

    assert listed(SLUG, most=10) == Listing((*of(3), Listed("me/gone", None), *of(1)))
    assert listed(SLUG, most=1) == Listing(of(3), has_more=True)


def test_a_collection_takes_no_longer_than_it_may(hub, monkeypatch):
    hub.collections[SLUG] = [(f"me/{n}", "model") for n in range(5)]
    monkeypatch.setattr(listing, "_SECONDS_FOR_ALL", -1)

    assert listed(SLUG, most=10) == Listing((), has_more=True)


def test_a_repository_of_either_hub(hub, tmp_path, monkeypatch):
    assert listed("me/1", most=1) == Listing(of(1))
    with local_aistudio.LocalAIStudio() as aistudio:
        local_aistudio.use(aistudio, monkeypatch, tmp_path)
        aistudio.repositories["me/cat"] = {"a": b"a"}
        assert listed("aistudio:me/cat", most=1) == Listing((Listed("aistudio:me/cat", ("a",)),))


def test_no_file_is_fetched(hub):
    hub.collections[SLUG] = [("me/3", "model")]
    for name in ("me", SLUG, "me/1"):
        listed(name, most=3)

    assert not [line for line in hub.requests if "/resolve/" in line]


@pytest.mark.parametrize("name", ["me", "me/cat", SLUG, "aistudio:me/cat"])
def test_what_can_be_listed(name):
    assert is_listable(name)


@pytest.mark.parametrize(
    "name", ["", "/a", "a/b/c", "aistudio:me", "a b", "..", "https://huggingface.co/me/cat", "a\n"]
)
def test_what_cannot(name):
    assert not is_listable(name)


@pytest.mark.parametrize("name", ["me", SLUG, "me/1"])
@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (dict(chunks=endless), "longer than 4 MiB"),
        (dict(body=b"["), "cannot be used"),
        (dict(body=b"7"), "cannot be used"),
        (dict(body=b'[{"id": 7, "siblings": []}]'), "cannot be used"),
        (dict(body=b'[{"id": "a/b", "siblings": [{"rfilename": 7}]}]'), "cannot be used"),
        (dict(body=b"{}", status=500), "answered 500"),
        (dict(body=b"{}", status=401), "401"),
    ],
)
def test_answers_that_are_none(tmp_path, monkeypatch, name, answer, phrase):
    with answering(**answer) as hub:
        use(hub, monkeypatch, tmp_path / "cache")
        with pytest.raises(HubError, match=phrase) as refusal:
            listed(name, most=3)
    assert "\n" not in str(refusal.value)


def test_a_hub_that_never_finishes_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(listing, "_SECONDS_FOR_A_LIST", 1)
    with answering(chunks=dripping) as hub:
        use(hub, monkeypatch, tmp_path / "cache")
        begun = time.monotonic()
        for name in ("me", SLUG):
            with pytest.raises(HubError, match="cannot be reached"):
                listed(name, most=3)
    assert time.monotonic() - begun < 8


def test_offline_nobody_is_asked(hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("me", SLUG, "me/1"):
        with pytest.raises(HubError, match="HF_HUB_OFFLINE forbids downloads"):
            listed(name, most=3)
    assert hub.requests == []
