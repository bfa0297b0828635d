"""Services of object storage for the tests of this folder."""

import pytest

from helpers.object_stores import Bucket, Service
from textual_inversion.storage import reading, writing


@pytest.fixture
def service(tmp_path, monkeypatch):
    """`rclone serve s3`, and the environment of a machine that uses it."""
    made = Service(tmp_path / "service")
    for name, value in made.environment(tmp_path / "machine").items():
        monkeypatch.setenv(name, value)
    yield made
    made.stop()


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A bucket in memory that every address is in, and a machine that uses it."""
    made = Bucket()
    monkeypatch.setenv("TEXTUAL_INVERSION_STORAGE", str(tmp_path / "machine"))
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    for module in (reading, writing):
        monkeypatch.setattr(module, "Client", lambda address: made)
    monkeypatch.setattr(writing, "at_end", lambda ending: None)
    monkeypatch.setattr(writing, "_LOOK_SECONDS", 0.1)
    monkeypatch.setattr(writing, "_SETTLE_SECONDS", 0.01)
    yield made
    made.is_down = False
    for one in list(writing._written.values()):
        one.finish()
