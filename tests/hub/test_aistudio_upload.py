"""Uploads to AI Studio: all files of a folder, once and again, and errors in one phrase."""

import json

import pytest

from helpers.local_aistudio import TOKEN, LocalAIStudio, use
from textual_inversion.hub import aistudio_upload
from textual_inversion.hub.aistudio_upload import check_login, create, upload_folder
from textual_inversion.hub.hugging_face import HubError

NAME = "me/cat"
FILES = {
    "README.md": b"card",
    "learned_embeds.safetensors": b"vectors",
    "samples/step-1.png": b"image",
    "空 格.txt": b"x",
}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with LocalAIStudio() as local:
        use(local, monkeypatch, tmp_path / "home")
        yield local


@pytest.fixture
def folder(tmp_path):
    for name, content in FILES.items():
        (tmp_path / "up" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "up" / name).write_bytes(content)
    return tmp_path / "up"


def test_a_folder_goes_up_and_again_with_what_has_changed(hub, folder):
    create(NAME, "openrail++")
    said = []

    assert upload_folder(NAME, folder, "first", said.append) == f"{hub.endpoint}/{NAME}"
    assert hub.repositories[NAME] == FILES and said == sorted(FILES) and hub.licenses[NAME] == "openrail++"

    (folder / "README.md").write_bytes(b"newer")
    (folder / "samples/step-1.png").write_bytes(b"newer image")
    create(NAME, "other")  # it is there already
    upload_folder(NAME, folder, "second")
    assert hub.repositories[NAME] == FILES | {"README.md": b"newer", "samples/step-1.png": b"newer image"}


def test_the_token_goes_to_the_git_server_and_the_service_only(hub, folder):
    create(NAME, "other")
    upload_folder(NAME, folder, "m")

    assert {token for path, token in hub.tokens if path.startswith("/objects/")} == {TOKEN}  # the same server here
    hub.tokens.clear()
    with LocalAIStudio() as storage:
        hub.repositories[NAME] = {}
        href = f"{storage.endpoint}/objects/"
        there = {
            "upload": {"href": href, "header": {"X-Signature": "s"}},
            "verify": {"href": f"{storage.endpoint}/verify"},
        }
        hub.answers = {"/objects/batch": json.dumps({"objects": [{"actions": there}]}).encode()}
        storage.answers = {"/objects/": b"", "/verify": b"{}"}
        hub.answers["/contents/"] = b"{}"
        upload_folder(NAME, folder, "m")
    assert {token for _, token in storage.tokens} == {""} and len(storage.tokens) == 4
    assert {token for _, token in hub.tokens} == {TOKEN}


def test_a_login_is_checked(hub, monkeypatch):
    check_login()

    monkeypatch.setenv("AISTUDIO_ACCESS_TOKEN", "wrong")
    with pytest.raises(HubError, match=r"does not accept the access token \(401\)"):
        check_login()
    monkeypatch.delenv("AISTUDIO_ACCESS_TOKEN")
    with pytest.raises(HubError, match="there is no access token and no earlier login"):
        check_login()
    monkeypatch.setenv("AISTUDIO_ACCESS_TOKEN", TOKEN)
    hub.refused = {"/user": 404}
    check_login()  # a server that does not say who is asking
    hub.refused = {"/user": 503}
    with pytest.raises(HubError, match="answered 503: refused for now"):
        check_login()
    hub.stop()
    with pytest.raises(HubError, match="cannot be reached"):
        check_login()


def test_a_repository_that_may_not_be_made(hub, monkeypatch):
    monkeypatch.setenv("AISTUDIO_ACCESS_TOKEN", "wrong")

    with pytest.raises(HubError, match="AI Studio makes no repository: bad token"):
        create(NAME, "other")


@pytest.mark.parametrize(
    "where", ["/git/trees/", "/preupload/", "/objects/batch", "/objects/", "/verify", "/contents/"]
)
@pytest.mark.parametrize("status", [401, 403, 500])
def test_whatever_is_refused_is_one_phrase(hub, folder, where, status):
    create(NAME, "other")
    hub.refused = {where: status}

    with pytest.raises(HubError, match=rf"\({status}\)$|AI Studio answered {status}: refused for now$"):
        upload_folder(NAME, folder, "m")


@pytest.mark.parametrize("where", ["/preupload/", "/objects/batch", "/verify", "/contents/"])
@pytest.mark.parametrize(
    "answer", [b"[]", b"7", b'{"files": []}', b'{"files": [{}]}', b'{"objects": [7]}',
               b'{"objects": [{"actions": {"upload": {"href": "file:///etc/passwd"}}}]}',
               b'{"objects": [{"actions": {"upload": {}}}]}',
               b'{"objects": [{"actions": {"upload": {"href": "http://x", "header": {"a": 7}}}}]}']
)  # fmt: skip
def test_an_answer_that_is_none_ends_the_upload_or_does_no_harm(hub, folder, where, answer):
    create(NAME, "other")
    hub.answers = {where: answer}

    try:
        upload_folder(NAME, folder, "m")
    except HubError as error:
        assert "gave an answer that cannot be used" in str(error) and "\n" not in str(error)
    else:
        assert where in ("/verify", "/contents/") and answer.startswith(b"{")


def test_what_is_too_large_is_named_before_anything_goes_up(hub, folder, monkeypatch):
    create(NAME, "other")
    (folder / "big.bin").write_bytes(b"x" * 2048)
    monkeypatch.setattr(aistudio_upload, "_MOST_BYTES_IN_GIT", 1024)
    with pytest.raises(HubError, match="AI Studio takes no big.bin of 2 KiB"):
        upload_folder(NAME, folder, "m")
    hub.repositories[NAME].clear()
    monkeypatch.setattr(aistudio_upload, "MOST_BYTES", 1024)
    with pytest.raises(HubError, match="big.bin has 2 KiB, and AI Studio takes 1 KiB at most"):
        upload_folder(NAME, folder, "m")
    assert hub.repositories[NAME] == {}
