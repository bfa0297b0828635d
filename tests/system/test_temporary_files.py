"""Temporary files: whose they are, and which of them go."""

import os

import pytest

from textual_inversion.system import atomic, temporary_files


def test_leftovers_of_running_processes_stay(tmp_path):
    token = temporary_files.TOKEN
    running = tmp_path / f".f.tmp-{os.getppid()}-{token}-0123abcd"
    running.touch()
    (tmp_path / ".f.tmp-notes").touch()
    with atomic.replacing(tmp_path / "f") as own:
        assert temporary_files.remove_leftovers(tmp_path, token) == []
        assert own.exists() and running.exists()
    assert temporary_files.remove_leftovers(tmp_path / "absent", token) == []


def test_on_windows_no_process_is_asked_by_a_signal(monkeypatch):
    monkeypatch.setattr(temporary_files, "_ON_WINDOWS", True)
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("a process was ended"))
    assert temporary_files._is_another_process(4)
