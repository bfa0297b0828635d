"""Restarts: a run that dies goes on from its newest checkpoint, and one that was told to end does not."""

import os
import signal
import subprocess
import sys
import time

import pytest

import train_textual_inversion
from helpers.checkpoint_facts import save_checkpoint
from helpers.paths import ROOT
from helpers.training_runs import short_run
from textual_inversion import api
from textual_inversion.system.errors import SettingsError, Stopped
from textual_inversion.training import checkpoints
from textual_inversion.training.supervisor import Supervisor, command_of

RESUME = "resume with the same command and --resume_from_checkpoint latest --output_dir {}"


class Runs:
    """A supervisor of a small program that notes its arguments, and what it says and how long it waits."""

    def __init__(self, folder, program, restarts):
        self.folder, self.said, self.waited = folder, [], []
        noted = f"open({str(folder / 'starts')!r}, 'a').write(' '.join(sys.argv[1:]) + '|')"
        command = [sys.executable, "-c", f"import os, signal, sys\n{noted}\n{program}"]
        self.supervisor = Supervisor(command, folder, restarts, say=self.said.append, sleep=self.waited.append)

    @property
    def starts(self):
        return (self.folder / "starts").read_text().split("|")[:-1]


def die_by(name):
    return f"os.kill(os.getpid(), signal.{name})"


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGABRT", "SIGBUS"])
def test_one_that_dies_at_once_ends_with_a_line_and_the_last_reason(tmp_path, name):
    runs = Runs(tmp_path, die_by(name), 3)

    assert runs.supervisor.run() == 128 + getattr(signal, name)
    assert len(runs.starts) == 4 and runs.waited == [1, 2, 4]
    why = f"by {name}" + (", as when memory runs out" if name == "SIGKILL" else "")
    assert runs.said == [
        *(f"the run died {why}; restart {n} of 3 in {2 ** (n - 1)} s, as it was started" for n in (1, 2, 3)),
        f"error: the run died 4 times, at last {why}; {RESUME.format(tmp_path)}",
    ]


def test_waits_grow_to_a_minute(tmp_path):
    runs = Runs(tmp_path, "sys.exit(1)", 8)

    assert runs.supervisor.run() == 1
    assert runs.waited == [1, 2, 4, 8, 16, 32, 60, 60]
    assert "with exit status 1; restart 8 of 8 in 60 s" in runs.said[-2]


@pytest.mark.parametrize("status", [0, 2, 130, 143, 129, 141])
def test_one_that_ended_or_was_told_to_end_is_not_started_again(tmp_path, status):
    runs = Runs(tmp_path, f"sys.exit({status})", 3)

    assert runs.supervisor.run() == status
    assert (len(runs.starts), runs.said) == (1, [])


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_one_whose_process_a_user_has_ended_is_not_started_again(tmp_path, name):
    program = f"signal.signal(signal.{name}, signal.SIG_DFL); " + die_by(name)
    runs = Runs(tmp_path, program, 3)

    assert runs.supervisor.run() == 128 + getattr(signal, name)
    assert len(runs.starts) == 1


def test_it_goes_on_from_the_newest_whole_checkpoint_of_this_run(tmp_path):
    save_checkpoint(tmp_path, 90)  # of an earlier run
    runs = Runs(tmp_path, die_by("SIGKILL"), 5)
    steps = iter([[], [3], [6, 9], [], [12]])

    original = runs.supervisor._start

    def start(checkpoint):
        status = original(checkpoint)
        for step in next(steps, []):
            folder = save_checkpoint(tmp_path, step)
            if step == 9:
                (folder / checkpoints.STATE_FILE).write_bytes(b"cut")
        return status

    runs.supervisor._start = start
    assert runs.supervisor.run() == 137

    def resumed(step):
        return f"--resume_from_checkpoint {tmp_path}/checkpoint-{step}"

    assert runs.starts == ["", "", resumed(3), resumed(6), resumed(6), resumed(12)]
    assert [line.partition("s, ")[2] for line in runs.said[:-1]] == [
        "as it was started", "from checkpoint-3", "from checkpoint-6", "from checkpoint-6", "from checkpoint-12",
    ]  # fmt: skip
    assert runs.waited == [1, 1, 1, 2, 1]


def test_a_signal_while_it_waits_ends_it(tmp_path):
    runs = Runs(tmp_path, "sys.exit(1)", 3)
    runs.supervisor._sleep = lambda seconds: os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped) as stopped:
        runs.supervisor.run()
    assert str(stopped.value) == f"stopped by SIGTERM; {RESUME.format(tmp_path)}" and stopped.value.status == 143


def test_the_child_is_the_same_command_without_restarts_in_the_same_folder(tmp_path):
    made = command_of("train.py", ["--max_restarts", "3", "--config", "x.yaml"], tmp_path)

    assert made[0] == sys.executable
    assert made[-9:] == ["train.py", "--max_restarts", "3", "--config", "x.yaml", "--max_restarts", "0",
                         "--output_dir", str(tmp_path)]  # fmt: skip


def test_several_processes_are_the_launchers(monkeypatch):
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    monkeypatch.setenv("PADDLE_TRAINER_ID", "0")
    with pytest.raises(SettingsError, match="--max_restarts is for a run of one process.*--max_restart N before"):
        train_textual_inversion.parse(["--max_restarts", "2"])


def test_from_python_it_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="max_restarts is for the command"):
        api.train(max_restarts=1, output_dir=str(tmp_path))


# ------------------------------------------------------------------------------------------------------ real runs


def children(pid):
    done = subprocess.run(["ps", "--ppid", str(pid), "-o", "pid="], capture_output=True, text=True)
    return [int(one) for one in done.stdout.split()]


def started(argv, log):
    return subprocess.Popen([sys.executable, str(ROOT / "train_textual_inversion.py"), *argv], stdout=log, stderr=log)


def wait_for(condition, seconds=240):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    assert condition()


LONG = ["--max_train_steps", "120", "--checkpointing_steps", "1", "--eval_steps", "0", "--only_save_embeds",
        "--num_threads", "1"]  # fmt: skip


@pytest.mark.slow
def test_a_run_that_is_killed_several_times_ends_with_the_same_bytes(tmp_path):
    argv = short_run(tmp_path, *LONG)
    output = tmp_path / "out"
    with open(tmp_path / "log", "wb") as log:
        run = started([*argv, "--max_restarts", "3"], log)
        killed = []
        for step in (5, 30, 60):
            wait_for(lambda step=step: (output / f"checkpoint-{step}").exists())
            wait_for(lambda: [pid for pid in children(run.pid) if pid not in killed])
            (child,) = [pid for pid in children(run.pid) if pid not in killed]
            os.kill(child, signal.SIGKILL)
            killed.append(child)
        assert run.wait(240) == 0
        undisturbed = tmp_path / "undisturbed"
        assert started([*argv, "--output_dir", str(undisturbed)], log).wait(240) == 0

    said = (tmp_path / "log").read_text()
    assert [f"restart {number} of 3 in 1 s, from checkpoint-" in said for number in (1, 2, 3)] == [True] * 3
    for name in ("learned_embeds.pdparams", "learned_embeds.safetensors"):
        assert (output / name).read_bytes() == (undisturbed / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_users_signal_reaches_the_run_once_and_ends_it_in_good_order(tmp_path, number):
    argv = short_run(tmp_path, *LONG, "--max_restarts", "3")
    with open(tmp_path / "log", "wb") as log:
        run = started(argv, log)
        wait_for(lambda: (tmp_path / "out" / "checkpoint-2").exists())
        run.send_signal(number)

        assert run.wait(120) == 128 + number
    said = (tmp_path / "log").read_text()
    assert said.count("stopped by") == 1 and f"stopped by {number.name} after step" in said and "restart" not in said


@pytest.mark.slow
def test_the_run_ends_in_good_order_if_what_keeps_it_running_is_killed(tmp_path):
    with open(tmp_path / "log", "wb") as log:
        run = started(short_run(tmp_path, *LONG, "--max_restarts", "3"), log)
        wait_for(lambda: (tmp_path / "out" / "checkpoint-2").exists())
        (child,) = children(run.pid)
        run.kill()
        run.wait(30)

        wait_for(lambda: not os.path.exists(f"/proc/{child}") or child_is_gone(child), 60)
    assert "stopped by SIGTERM after step" in (tmp_path / "log").read_text()


def child_is_gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
