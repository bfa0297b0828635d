"""The output folder is there and can be written before any long work begins."""

import pytest

from helpers.failing_disk import FailingDisk
from textual_inversion.system.errors import OutputError
from textual_inversion.system.output_folder import make_output_folder


def test_one_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")

    with pytest.raises(OutputError, match="--output_dir"):
        make_output_folder(str(tmp_path / "file" / "out"))
    with pytest.raises(OutputError):
        make_output_folder(str(tmp_path / "file"))


def test_one_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    FailingDisk(monkeypatch).fails = lambda step: True

    with pytest.raises(OutputError, match="cannot write"):
        make_output_folder(str(tmp_path))


def test_a_new_one_is_left_empty(tmp_path):
    folder = make_output_folder(str(tmp_path / "a" / "b"))

    assert folder.is_dir() and not list(folder.iterdir())
