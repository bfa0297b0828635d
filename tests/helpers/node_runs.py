"""Runs on several nodes, all of them on this machine: a launcher of its own for each, one process a node."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from helpers.paths import ROOT


@dataclass
class Node:
    """A launcher, its console and the log of its process."""

    launcher: subprocess.Popen
    console: Path
    log: Path

    def said(self) -> str:
        """What can be read on its console so far."""
        return self.console.read_text(errors="replace")

    def logged(self) -> str:
        """What its process has written so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def kill_process(self) -> None:
        """SIGKILL for the training process; the launcher lives."""
        (process,) = children(self.launcher.pid)
        os.kill(process, signal.SIGKILL)


def start_nodes(folder: Path, *arguments: list[str], scripts: dict | None = None) -> list[Node]:
    """Start as many nodes as there are lists of arguments; their consoles and logs lie in `folder`.

    Args:
        scripts: node -> what it runs instead of the training command.
    """
    port, nodes = free_port(), []
    folder.mkdir(exist_ok=True)
    for number, words in enumerate(arguments):
        logs, console = folder / f"log-{number}", folder / f"console-{number}.txt"
        launch = ["--master", f"127.0.0.1:{port}", "--nnodes", str(len(arguments)), "--rank", str(number)]
        launch += ["--nproc_per_node", "1", "--log_dir", str(logs)]
        script = (scripts or {}).get(number, ROOT / "train_textual_inversion.py")
        with console.open("w") as stream:
            command = [sys.executable, "-u", "-m", "paddle.distributed.launch", *launch, str(script), *words]
            launcher = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, cwd=folder)
        nodes.append(Node(launcher, console, logs / "workerlog.0"))
    return nodes


def finish(nodes: list[Node], seconds: float = 200) -> list[int]:
    """Wait for all launchers; returns their statuses. None of them outlives the test."""
    end = time.monotonic() + seconds
    try:
        return [node.launcher.wait(max(0.1, end - time.monotonic())) for node in nodes]
    finally:
        for node in nodes:
            for process in [*children(node.launcher.pid), node.launcher.pid] if node.launcher.poll() is None else []:
                os.kill(process, signal.SIGKILL)


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def children(process: int) -> list[int]:
    """Processes that a process has started and that live."""
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def words_of(nodes: list[Node]) -> str:
    """All that was said, for a test that fails."""
    return "\n".join(f"--- node {i}\n{node.said()[-3000:]}\n{node.logged()[-3000:]}" for i, node in enumerate(nodes))
