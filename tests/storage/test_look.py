"""What is at an address, as an exit status."""

import os
import subprocess
import sys

import pytest

from helpers.paths import ROOT
from textual_inversion.storage import look
from textual_inversion.system.errors import SettingsError


def test_the_status_says_whether_there_are_files(bucket, monkeypatch):
    monkeypatch.setattr(look, "Client", lambda address: bucket)
    bucket.objects |= {"run/sweep.json": b"", "run/checkpoint-1/state": b"", "run/checkpoint-20/SHA256SUMS": b""}
    asked = {
        name: look.main(["s3://bucket/run", name]) for name in ("sweep.json", "teach.json", "checkpoint-*/SHA256SUMS")
    }
    assert asked == {"sweep.json": 0, "teach.json": 3, "checkpoint-*/SHA256SUMS": 0}
    del bucket.objects["run/checkpoint-20/SHA256SUMS"]  # torn
    assert look.main(["s3://bucket/run", "checkpoint-*/SHA256SUMS"]) == 3


def test_whoever_cannot_ask_does_not_answer(service):
    def status(*words, **more):
        command = [sys.executable, "-m", "textual_inversion.storage.look", *words]
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **more}, capture_output=True, text=True, check=False
        )
        assert done.stderr.count("\n") == (done.returncode == 2), done.stderr
        return done.returncode

    assert status("s3://bucket/run", "x") == 3
    assert status("s3://missing/run", "x") == 2
    assert status("s3://bucket/run", "x", AWS_SECRET_ACCESS_KEY="wrong") == 2
    with pytest.raises(SettingsError):
        look.main(["s3://bucket/run"])
