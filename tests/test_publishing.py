"""Uploads: what goes up, what stays, and what a failure says."""

import pytest

from textual_inversion import publishing
from textual_inversion.errors import OutputError


class Hub:
    """Stands for `HfApi`: remembers what it was asked."""

    calls: list = []
    error: Exception | None = None

    def __init__(self, token):
        self.calls.append(("token", token))

    def whoami(self):
        if self.error:
            raise self.error

    def create_repo(self, name, exist_ok):
        if self.error:
            raise self.error
        self.calls.append(("repo", name, exist_ok))

        class Address(str):
            repo_id = f"me/{name}"

        return Address(f"https://hub/me/{name}")

    def upload_folder(self, **options):
        self.calls.append(options)


@pytest.fixture
def hub(monkeypatch):
    import huggingface_hub

    Hub.calls, Hub.error = [], None
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    return Hub


def test_the_folder_goes_up_without_logs(tmp_path, hub):
    address = publishing.upload(tmp_path / "my-cat", None, "secret")

    assert address == "https://hub/me/my-cat"
    assert hub.calls[:2] == [("token", "secret"), ("repo", "my-cat", True)]
    assert hub.calls[2]["repo_id"] == "me/my-cat" and "logs/**" in hub.calls[2]["ignore_patterns"]


def test_a_failed_upload_says_where_everything_is(tmp_path, hub):
    hub.error = ConnectionError("no route\nmore")

    with pytest.raises(OutputError) as caught:
        publishing.upload(tmp_path, "me/cat", None)

    assert "no route" in str(caught.value) and str(tmp_path) in str(caught.value)


def test_a_login_is_checked_before_the_work(hub):
    publishing.check_login("secret")
    hub.error = PermissionError("401 Unauthorized")

    with pytest.raises(OutputError, match="401 Unauthorized.*check --hub_token"):
        publishing.check_login("wrong")
