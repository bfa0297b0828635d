"""Requests to AI Studio: the token, answers that are none or too much, and errors in one phrase."""

import gzip
import os
import time
from types import SimpleNamespace

import pytest

from helpers.local_aistudio import LocalAIStudio, use
from hub.test_bounded_answers import answering, dripping, endless
from textual_inversion.hub import aistudio_client
from textual_inversion.hub.aistudio_client import ask
from textual_inversion.hub.hugging_face import HubError

SECRET = "s3cret-token"


@pytest.fixture
def home(tmp_path, monkeypatch):
    use(SimpleNamespace(environment=lambda token: {"HF_HUB_OFFLINE": "0"}), monkeypatch, tmp_path)
    return tmp_path


def keep(home, text):
    (home / ".cache/aistudio/.auth").mkdir(parents=True)
    (home / ".cache/aistudio/.auth/token").write_text(text)


def test_the_token_is_that_of_the_environment_or_of_an_earlier_login(home, monkeypatch):
    assert aistudio_client.token() is None
    keep(home, "kept\n")
    assert aistudio_client.token() == "kept"
    monkeypatch.setenv("AISTUDIO_CACHE_HOME", str(home / "elsewhere"))
    assert aistudio_client.token() is None
    monkeypatch.setenv("AISTUDIO_ACCESS_TOKEN", " given ")
    assert aistudio_client.token() == "given"


@pytest.mark.parametrize("wrong", ["a b", "a\nb", "a\r\nX-Evil: 1", "ünicode", "x\x1b[2J"])
def test_a_token_that_is_none_is_refused_and_not_shown(home, wrong):
    keep(home, wrong)

    with pytest.raises(HubError, match="characters that no token has") as refusal:
        aistudio_client.token()

    assert wrong not in str(refusal.value)


def test_a_token_file_that_is_no_file_is_no_token(home):
    (home / ".cache/aistudio/.auth").mkdir(parents=True)
    os.mkfifo(home / ".cache/aistudio/.auth/token")

    assert aistudio_client.token() is None


def test_ai_studio_itself_is_never_asked_in_the_clear(home):
    assert aistudio_client.git_server().startswith("https://")
    assert aistudio_client.service("HUB_URL").startswith("https://")


@pytest.mark.parametrize("address", ["git.example", "file:///etc", "ftp://x", "https://"])
def test_an_address_that_is_none_is_named(home, monkeypatch, address):
    monkeypatch.setenv("STUDIO_GIT_HOST", address)

    with pytest.raises(HubError, match="STUDIO_GIT_HOST is not the address of a web server; give one that begins"):
        aistudio_client.git_server()


def test_an_environment_that_the_sdk_does_not_know_is_named(home, monkeypatch):
    import sys

    for name in [name for name in sys.modules if name.startswith("aistudio_sdk")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setenv("CURRENT_ENV", "prod")

    with pytest.raises(HubError, match="aistudio-sdk refuses to start .*unset CURRENT_ENV"):
        aistudio_client.git_server()


UNUSABLE = "AI Studio gave an answer that cannot be used"


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (dict(chunks=endless), "answer is longer than 4 MiB"),
        (dict(chunks=endless, status=500), "answer is longer than 4 MiB"),
        (dict(chunks=endless, status=302, Location="/elsewhere"), "answer is longer than 4 MiB"),
        (dict(body=gzip.compress(b" " * 100_000_000), Content_Encoding="gzip"), "answer is longer than 4 MiB"),
        (dict(body=b"[" * 1_000_000), UNUSABLE),
        (dict(body=b"hello\x1b[2J"), UNUSABLE),
        (dict(body=b"7"), UNUSABLE),
        (dict(body=b""), UNUSABLE),
        (dict(body=b"{}", Content_Encoding="gzip"), UNUSABLE),
        (dict(body=b"", status=302, Location="/elsewhere"), UNUSABLE),
        (dict(body=b"", status=302, Location="http://[x"), UNUSABLE),
        (dict(body=b"", status=302, Location="gopher://x"), UNUSABLE),
        (dict(body=b"{}", status=503), "AI Studio answered 503$"),
        (dict(body=b'{"message": "no\\n\\nroom"}', status=507), "AI Studio answered 507: no room$"),
        (dict(body=b'{"message": "%s"}' % (b"x" * 9999), status=400), "AI Studio answered 400: x{200}$"),
        (dict(body=b'{"message": 7}', status=400), "AI Studio answered 400$"),
        (dict(body=b"<html>", status=404), "AI Studio has no public repository of this name"),
    ],
)
def test_an_answer_that_is_none_is_one_phrase(home, answer, phrase):
    with answering(**answer) as hub, pytest.raises(HubError, match=phrase) as refusal:
        ask("GET", hub.endpoint, dict[str, int])

    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 400


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_and_a_missing_one_are_told_apart(home, monkeypatch, status):
    with answering(b"{}", status) as hub:
        with pytest.raises(HubError, match=rf"wants an access token \({status}\): set AISTUDIO_ACCESS_TOKEN"):
            ask("GET", hub.endpoint, dict[str, int])
        monkeypatch.setenv("AISTUDIO_ACCESS_TOKEN", SECRET)
        with pytest.raises(HubError, match=rf"does not accept the access token \({status}\)") as refusal:
            ask("GET", hub.endpoint, dict[str, int])
    assert SECRET not in str(refusal.value)


def test_a_server_that_never_finishes_and_one_that_is_not_there_are_unreachable(home):
    with answering(chunks=dripping) as hub, pytest.raises(HubError, match="^AI Studio cannot be reached$"):
        begun = time.monotonic()
        ask("GET", hub.endpoint, dict[str, int], seconds=1)
    assert time.monotonic() - begun < 4
    with pytest.raises(HubError, match="^AI Studio cannot be reached$"):
        ask("GET", hub.endpoint, dict[str, int])


def test_offline_nobody_is_asked(tmp_path, monkeypatch):
    with LocalAIStudio() as hub:
        use(hub, monkeypatch, tmp_path)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(HubError, match="HF_HUB_OFFLINE forbids it"):
            ask("GET", f"{hub.endpoint}/api/v1/user", dict[str, str])
        assert hub.requests == []


def test_the_token_goes_to_ai_studio_and_to_nobody_that_it_leads_to(tmp_path, monkeypatch):
    """127.0.0.1 and localhost are one machine and two servers."""
    with LocalAIStudio() as hub, LocalAIStudio() as other:
        use(hub, monkeypatch, tmp_path, SECRET)
        (tmp_path / ".netrc").write_text(f"machine localhost login ann password {SECRET}\n")
        elsewhere = other.endpoint.replace("127.0.0.1", "localhost")
        hub.answers = {"/here": b"{}"}
        other.answers = {"/there": b"{}"}

        ask("GET", f"{hub.endpoint}/here", dict[str, int])
        ask("GET", f"{elsewhere}/there", dict[str, int], own=False)
        with answering(b"", 302, Location=f"{elsewhere}/there") as leading:
            ask("GET", leading.endpoint, dict[str, int])

    assert hub.tokens == [("/here", SECRET)]
    assert other.tokens == [("/there", ""), ("/there", "")]
