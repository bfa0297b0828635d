"""The local AI Studio speaks as the real one does, as far as aistudio-sdk knows: the SDK itself works with it."""

import pytest

from helpers.local_aistudio import LocalAIStudio, use
from textual_inversion.hub import aistudio_download, aistudio_upload

SMALL, LARGE = b"small", b"large" * 1000


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with LocalAIStudio() as local:
        use(local, monkeypatch, tmp_path / "home")
        monkeypatch.chdir(tmp_path)
        yield local


def test_what_the_sdk_uploads_is_read_here(hub, tmp_path):
    from aistudio_sdk import hub as sdk

    assert sdk.create_repo(repo_id="me/cat", license="other")["repo_id"] == "cat"
    for name, content in [("a.txt", SMALL), ("samples/b.png", LARGE), ("samples/b.png", LARGE)]:
        (tmp_path / "file").write_bytes(content)
        where = dict(path_or_fileobj=str(tmp_path / "file"), path_in_repo=name, commit_message="x")
        done = sdk.upload(repo_id="me/cat", **where)
        assert done == {"message": "Upload Done."}

    assert hub.repositories["me/cat"] == {"a.txt": SMALL, "samples/b.png": LARGE}
    assert aistudio_download.files_of("me/cat") == ["a.txt", "samples/b.png"]
    folder = aistudio_download.fetch("me/cat", ["a.txt", "samples/b.png"])
    assert (folder / "a.txt").read_bytes() == SMALL and (folder / "samples/b.png").read_bytes() == LARGE


def test_what_is_uploaded_here_is_read_by_the_sdk(hub, tmp_path):
    from aistudio_sdk import hub as sdk

    (tmp_path / "up/samples").mkdir(parents=True)
    (tmp_path / "up/a.txt").write_bytes(SMALL)
    (tmp_path / "up/samples/b.png").write_bytes(LARGE)

    aistudio_upload.create("me/cat", "other")
    aistudio_upload.upload_folder("me/cat", tmp_path / "up", "a message")

    for name, content in {"a.txt": SMALL, "samples/b.png": LARGE}.items():
        done = sdk.download(repo_id="me/cat", filename=name, cache_dir=str(tmp_path / "sdk"))
        with open(done["path"], "rb") as file:
            assert file.read() == content
    assert sdk.file_exists("me/cat", "a.txt") and not sdk.file_exists("me/cat", "c.txt")
