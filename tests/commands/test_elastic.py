"""Paddle's launcher with etcd: a process that dies is started again, and the run ends as if nothing had happened."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import datetime, timedelta
from importlib.util import find_spec
from itertools import product

import pytest

from helpers.interrupted_runs import killed_once
from helpers.node_runs import free_port
from helpers.training_runs import launch, short_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.multiprocess,
    pytest.mark.skipif(shutil.which("etcd") is None, reason="no etcd here; Debian has it as etcd-server"),
    pytest.mark.skipif(find_spec("etcd3") is None, reason="pip install -r requirements-cluster.txt"),
]

SETTINGS = ["--only_save_embeds", "--eval_steps", "0", "--max_train_steps", "6", "--save_steps", "2",
            "--num_vectors", "2", "--train_batch_size", "1", "--num_threads", "1"]  # fmt: skip
LATEST = ["--resume_from_checkpoint", "latest"]


@contextmanager
def etcd(folder):
    """A server of etcd on this machine; gives its port."""
    port, peers = free_port(), free_port()
    client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peers}"
    words = ["etcd", "--data-dir", str(folder / "etcd"), "--listen-client-urls", client]
    words += ["--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
    with (folder / "etcd.txt").open("w") as log:
        server = subprocess.Popen([*words, "--initial-cluster", f"default={peer}"], stdout=log, stderr=log)
    try:
        until = time.monotonic() + 30
        while time.monotonic() < until and server.poll() is None:
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield port
    finally:
        server.terminate()
        server.wait(20)


def start_launcher(folder, number, port, nodes, processes, words):
    """A launcher that restarts what dies; gives it and its console."""
    console = folder / f"console-{number}.txt"
    launch = ["--master", f"etcd://127.0.0.1:{port}", "--nnodes", nodes, "--elastic_level", "1", "--max_restart", "3"]
    launch += ["--elastic_timeout", "15", "--job_id", "tried", "--log_dir", str(folder / f"log-{number}")]
    launch += ["--nproc_per_node", str(processes)]
    command = [sys.executable, "-u", "-m", "paddle.distributed.launch", *launch, *map(str, words)]
    environment = os.environ | {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}
    with console.open("w") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=stream, cwd=folder, env=environment, start_new_session=True
        )
    return process, console


def run_until_done(folder, nodes, processes, words):
    """Two processes under one launcher or two; gives each launcher's status, and what it said."""
    with etcd(folder) as port:
        started = [start_launcher(folder, i, port, nodes, processes, words) for i in range(2 // processes)]
        try:
            statuses = [process.wait(240) for process, _ in started]
        finally:
            for process, _ in started:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
    return statuses, [console.read_text(errors="replace")[-4000:] for _, console in started]


def gave_up_at_once(said):
    """Whether a launcher met Paddle's race: it looks for its peers before it has heard that it is to begin again."""
    moments = [
        [datetime.strptime(moment, "%H:%M:%S,%f") for moment in re.findall(r"([\d:]{8},\d{3}) " + words, said)]
        for words in ("Waiting peer ready", "peer not ready")
    ]
    return any(timedelta(0) <= after - before < timedelta(seconds=1) for before, after in product(*moments))


@pytest.mark.parametrize(("nodes", "processes"), [("1:2", 2), ("2:3", 1)], ids=["one launcher", "two launchers"])
def test_a_rank_that_dies_comes_back_and_the_run_ends_with_the_bytes_of_an_undisturbed_one(tmp_path, nodes, processes):
    whole = tmp_path / "whole"
    launch(short_run(tmp_path, *SETTINGS, "--output_dir", str(whole)), processes=2, cwd=tmp_path)
    for attempt in range(3):  # the race is not ours, and is rare
        folder = tmp_path / f"attempt-{attempt}"
        script, moment, out = folder / "killed_once.py", folder / "moment", folder / "out"
        folder.mkdir()
        script.write_text(killed_once(moment))
        words = [script, *short_run(tmp_path, *SETTINGS, *LATEST, "--output_dir", str(out))]
        statuses, said = run_until_done(folder, nodes, processes, words)
        if not any(map(gave_up_at_once, said)):
            break

    said = "\n".join(said)
    assert moment.exists() and set(statuses) == {0}, said
    logs = "".join(path.read_text(errors="replace") for path in folder.glob("log-*/workerlog.*"))
    assert f"resuming {out / 'checkpoint-2'}, after step 2" in logs, said
    for name in ("learned_embeds-steps-6.pdparams", "learned_embeds.pdparams"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
