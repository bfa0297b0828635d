"""Services of object storage for the tests of this folder."""

import pytest

from helpers.object_stores import Service


@pytest.fixture
def service(tmp_path, monkeypatch):
    """`rclone serve s3`, and the environment of a machine that uses it."""
    made = Service(tmp_path / "service")
    for name, value in made.environment(tmp_path / "machine").items():
        monkeypatch.setenv(name, value)
    yield made
    made.stop()
