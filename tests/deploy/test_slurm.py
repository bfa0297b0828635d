"""The scripts for Slurm, on a real cluster of one machine that the test starts: munge, a controller and a node."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time

import pytest

from helpers.node_runs import free_port
from helpers.paths import ROOT
from helpers.training_runs import draw_images, launch, short_run

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel")
LACKING = [name for name in PROGRAMS if shutil.which(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.multiprocess,
    pytest.mark.skipif(bool(LACKING), reason=f"no {', '.join(LACKING)} here; Debian has slurm-wlm and munge"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a node of Slurm runs as root"),
]

CONFIGURATION = """
ClusterName=tried
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/controller.pid
SlurmdPidFile={folder}/node.pid
SlurmctldLogFile={folder}/controller.log
SlurmdLogFile={folder}/node.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobRequeue=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
SETTINGS = ["--only_save_embeds", "--eval_steps", "0", "--save_steps", "1000", "--num_threads", "1"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The environment of Slurm's commands, with a cluster of one machine behind it."""
    folder, host = tmp_path_factory.mktemp("slurm"), socket.gethostname().split(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    configuration = folder / "slurm.conf"
    ports = {"controller": free_port(), "node": free_port()}
    configuration.write_text(CONFIGURATION.format(host=host, folder=folder, **ports))
    environment = os.environ | {"SLURM_CONF": str(configuration)}
    munge = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", f"--key-file={key}"]
    munge += [f"--pid-file={folder}/munge.pid", f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed"]
    servers = [
        munge,
        ["slurmctld", "-D", "-f", str(configuration)],
        ["slurmd", "-D", "-f", str(configuration), "-N", host],
    ]
    started = []
    try:
        for words in servers:
            log = (folder / f"{words[0]}.txt").open("w")
            started.append(subprocess.Popen(words, stdout=log, stderr=log, env=environment))
            time.sleep(1)
        _wait(lambda: "idle" in _said(environment, "sinfo", "-h", "-o", "%T"), 60, lambda: _logs(folder))
        yield environment
    finally:
        for server in reversed(started):
            server.terminate()
            server.wait(30)


def _logs(folder):
    return "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(folder.glob("*.txt")))


def _said(environment, *words):
    ended = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    return ended.stdout + ended.stderr


def _wait(is_done, seconds, told):
    until = time.monotonic() + seconds
    while not is_done():
        assert time.monotonic() < until, told()
        time.sleep(0.3)


def submit(cluster, folder, script, *words, **variables):
    """The number of a job of one of the scripts; its log lies in the folder."""
    own = cluster | {"PYTHON": sys.executable, "PROJECT": str(ROOT), **variables}
    given = {word for word in words if word.startswith("--array")}
    begin = ["sbatch", "--parsable", *given, str(ROOT / "deploy" / "slurm" / script)]
    words = [*begin, *(word for word in words if word not in given)]
    ended = subprocess.run(words, env=own, cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def wait_for(cluster, job, folder, seconds=240):
    _wait(lambda: not _said(cluster, "squeue", "-h", "-j", job).strip(), seconds, lambda: logged(folder))


def logged(folder):
    return "\n".join(path.read_text(errors="replace")[-6000:] for path in sorted(folder.glob("*.log")))


def test_a_training_that_is_told_to_end_goes_back_into_the_queue_and_ends_with_the_same_bytes(cluster, tmp_path):
    jobs, whole, out = tmp_path / "jobs", tmp_path / "whole", tmp_path / "out"
    jobs.mkdir()
    argv = short_run(tmp_path, *SETTINGS, "--max_train_steps", "150", "--output_dir", str(whole))
    launch(argv, processes=1, cwd=tmp_path)
    argv = short_run(tmp_path, *SETTINGS, "--max_train_steps", "150")
    own = [word for word in argv if word != str(out)]
    own.remove("--output_dir")

    job = submit(cluster, jobs, "train.sbatch", *own, OUTPUT=str(out))
    _wait(lambda: (out / "figures.jsonl").exists() or "step 1" in logged(jobs), 120, lambda: logged(jobs))
    assert _said(cluster, "scancel", "--signal=TERM", "--batch", job) == ""
    wait_for(cluster, job, jobs)

    said = logged(jobs)
    assert re.search(r"resuming .*, after step \d+", said), said
    assert (out / "learned_embeds.pdparams").read_bytes() == (whole / "learned_embeds.pdparams").read_bytes()


def test_an_array_shares_a_folder_of_concepts_and_passes_over_those_that_are_learned(cluster, tmp_path):
    jobs, out = tmp_path / "jobs", tmp_path / "words"
    jobs.mkdir()
    argv = short_run(tmp_path, *SETTINGS, "--initializer_token", "toy")
    for name in ("cup", "ink", "owl"):
        draw_images(tmp_path / "concepts" / name)
    (tmp_path / "concepts" / "void").mkdir()
    own = [word for word in argv if word not in (str(tmp_path / "out"), str(tmp_path / "pictures"))]
    for name in ("--output_dir", "--train_data_dir"):
        own.remove(name)
    words = ["--array=3-5:2", "concepts.sbatch", str(tmp_path / "concepts"), *own]

    job = submit(cluster, jobs, words[1], words[0], *words[2:], OUTPUT=str(out))
    wait_for(cluster, job, jobs)
    learned = sorted(path.parent.name for path in out.glob("*/learned_embeds.pdparams"))
    first = logged(jobs)
    job = submit(cluster, jobs, words[1], words[0], *words[2:], OUTPUT=str(out))
    wait_for(cluster, job, jobs)

    assert learned == ["cup", "ink", "owl"], first
    assert sorted(re.findall(r"^--- (\w+)$", first, re.M)) == ["cup", "ink", "owl", "void"]
    assert "not learned: void" in first and first.count("not learned") == 1
    again = logged(jobs).replace(first, "")
    assert sorted(re.findall(r"^--- (\w+)$", logged(jobs), re.M)) == ["cup", "ink", "owl", "void", "void"], again
