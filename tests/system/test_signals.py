"""What SIGTERM, SIGINT, SIGHUP and a lost reader do: when they wait, when they do not, and what their repeats do."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
import threading
import time

import pytest

from helpers.paths import ROOT
from helpers.training_runs import short_run
from textual_inversion.system import signals, streams
from textual_inversion.system.errors import Stopped, run_command
from textual_inversion.system.signals import Signals

NUMBERS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


def send(number):
    os.kill(os.getpid(), number)


@pytest.fixture
def repeated(monkeypatch):
    """Signals whose clock is set by hand; `ended` collects what would have ended the process."""
    now, ended = [0.0], []
    with Signals(clock=lambda: now[0]) as stop:
        monkeypatch.setattr(signals.os, "kill", lambda process, number: ended.append(number))
        yield stop, now, ended


@pytest.mark.parametrize("number", NUMBERS)
def test_while_nothing_waits_a_signal_ends_the_run_at_once(number):
    with Signals() as stop:
        stop.advice = "while pictures were drawn"
        with pytest.raises(Stopped, match=f"stopped by {number.name} while pictures were drawn") as caught:
            send(number)
    assert caught.value.status == 128 + number


@pytest.mark.parametrize("number", NUMBERS)
def test_during_a_step_it_is_noted_and_raised_where_the_waiting_ends(number):
    with Signals() as stop:
        stop.wait_for_the_step()
        send(number)
        assert stop.received == number
        with pytest.raises(Stopped), stop.at_once():
            pytest.fail("something began that can be done again")
        with pytest.raises(Stopped):
            stop.wait_no_longer()


def test_images_within_the_loop_do_not_wait_and_the_next_step_does():
    with Signals() as stop:
        stop.wait_for_the_step()
        with stop.at_once():
            pass
        send(signal.SIGTERM)
        assert stop.received == signal.SIGTERM


@pytest.mark.parametrize("waits", [False, True])
def test_what_processes_do_together_is_not_left_half_way(waits):
    done = []
    with Signals() as stop:
        if waits:
            stop.wait_for_the_step()
        try:
            with stop.noted(), stop.noted():
                send(signal.SIGTERM)
                done.append("the exchange")
            done.append("the rest")
        except Stopped:
            done.append("stopped")

    assert done == ["the exchange", "the rest" if waits else "stopped"]


def test_the_handlers_of_before_come_back():
    before = [signal.getsignal(number) for number in NUMBERS]
    with Signals() as stop:
        stop.install()
        assert [signal.getsignal(number) for number in NUMBERS] != before
    assert [signal.getsignal(number) for number in NUMBERS] == before


UNINTERRUPTED = """
import os, signal, threading, time
from textual_inversion.system.signals import Signals, blocked
with Signals() as stop:
    stop.wait_for_the_step()
    with blocked():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(100):
            assert stop.received is None
    print(signal.Signals(stop.received).name, signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""


def test_signals_come_after_a_native_call_that_must_not_be_interrupted():
    done = subprocess.run([sys.executable, "-c", UNINTERRUPTED], cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stderr) == (0, "") and done.stdout in ("SIGTERM set()\n", "SIGINT set()\n")


HELD_BACK = """
import os, signal
from textual_inversion.system.errors import Stopped
from textual_inversion.system.signals import Signals
with Signals() as stop:
    try:
        with stop.held_back():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as paddlenlp does
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.received is None
    except Stopped:
        assert stop.received == signal.SIGTERM
        print("held back")
"""


def test_a_held_back_signal_comes_when_the_import_is_over():
    """In a process of its own: a signal goes to any thread that does not block it, and a test run has some by now."""
    done = subprocess.run([sys.executable, "-c", HELD_BACK], cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stdout, done.stderr) == (0, "held back\n", "")


def test_a_second_sigint_ends_the_process_on_the_spot(repeated):
    stop, _, ended = repeated
    stop.wait_for_the_step()
    signal.raise_signal(signal.SIGINT)
    assert ended == []
    signal.raise_signal(signal.SIGINT)
    assert ended == [signal.SIGINT] and signal.getsignal(signal.SIGINT) == signal.SIG_DFL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_repeats_of_sigterm_and_sighup_count_only_after_a_while(repeated, number):
    stop, now, ended = repeated
    stop.wait_for_the_step()
    for now[0] in (0.0, 0.2, 0.4, 5.0):
        signal.raise_signal(number)
    assert ended == []
    now[0] = 5.1
    signal.raise_signal(number)
    assert ended == [number]


def test_a_hangup_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals() as stop:
            stop.install()
            send(signal.SIGHUP)
            assert stop.received is None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_lost_reader_ends_a_run_like_a_signal_and_is_told_once(repeated):
    stop, now, ended = repeated
    stop.advice = "after step 3"
    stop.wait_for_the_step()
    for now[0] in (0.0, 60.0):  # stdout, and then stderr
        streams.reader_is_gone()
    assert stop.received == signal.SIGPIPE and ended == []
    with pytest.raises(Stopped, match="^stopped because nobody reads its output any more, after step 3$") as caught:
        stop.wait_no_longer()
    assert caught.value.status == 141


def test_a_lost_reader_ends_what_can_be_repeated_at_once_and_another_thread_leaves_it_to_the_main_one():
    with Signals(), pytest.raises(Stopped):
        streams.reader_is_gone()
    with Signals() as stop:
        thread = threading.Thread(target=streams.reader_is_gone)
        thread.start()
        thread.join()
        assert stop.received == signal.SIGPIPE
    streams.reader_is_gone()  # nobody listens any more


def test_one_process_tells_and_the_others_only_leave():
    stop = Signals()
    stop.received, stop.advice = signal.SIGTERM, None
    assert str(stop.stopped()) == "" and stop.stopped().status == 143


def test_a_process_that_was_not_told_itself_leaves_as_the_told_one_does():
    assert Signals().stopped().status == 143


@pytest.mark.parametrize("number", NUMBERS)
def test_the_command_prints_one_line_and_leaves_with_the_status(number, capsys):
    def main():
        raise Stopped(number, "stopped after step 3")

    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as caught:
            run_command(main)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value.code == 128 + number and capsys.readouterr().err == "stopped after step 3\n"


# ---------------------------------------------------------------------------------------------- whole processes


def started(tmp_path, *more):
    argv = short_run(tmp_path, "--only_save_embeds", "--max_train_steps", "5000", "--eval_steps", "0", *more)
    command = [sys.executable, "-u", str(ROOT / "train_textual_inversion.py"), *argv]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=obey_all)


def obey_all():
    """In a child: let no signal be ignored or blocked, whatever the tests' own process was started with."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def read_until(process, words):
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return
    pytest.fail("".join(lines))


@pytest.mark.slow
@pytest.mark.parametrize("number", NUMBERS)
def test_a_run_that_is_told_to_end_leaves_a_checkpoint_and_says_how_to_go_on(tmp_path, number):
    process = started(tmp_path)
    read_until(process, "step 1/5000")
    for _ in range(1 if number == signal.SIGINT else 3):
        process.send_signal(number)
        time.sleep(0.05)
    last = process.communicate(timeout=100)[0].splitlines()[-1]

    assert process.returncode == 128 + number
    (checkpoint,) = (tmp_path / "out").glob("checkpoint-*")
    step = checkpoint.name.partition("-")[2]
    assert last == (
        f"stopped by {number.name} after step {step} of 5000; {checkpoint.name} is saved, resume with the same command "
        f"and --resume_from_checkpoint latest --output_dir {tmp_path / 'out'}"
    )
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.slow
def test_a_run_that_is_told_to_end_at_its_start_says_that_there_is_no_checkpoint(tmp_path):
    process = started(tmp_path)
    read_until(process, "device cpu")
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=100)[0].splitlines()

    assert process.returncode == 143
    assert said[-1] == "stopped by SIGTERM before the first step; no checkpoint was written"
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.slow
def test_a_run_that_is_told_to_end_while_images_are_drawn_does_not_wait_for_them(tmp_path):
    drawn = ["--validation_prompt", "a <cat-toy>", "--validation_steps", "2", "--num_inference_steps", "250"]
    process = started(tmp_path, *drawn, "--num_validation_images", "1", "--save_steps", "2")
    while not (tmp_path / "out" / "checkpoint-2").exists():  # then the pictures of step 2 are begun
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    last = process.communicate(timeout=100)[0].splitlines()[-1]

    assert process.returncode == 143 and "after step 2 of 5000; checkpoint-2 is saved" in last
    assert not (tmp_path / "out" / "samples" / "step-2.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize("together", [False, True])
def test_a_run_whose_reader_goes_away_leaves_a_checkpoint(tmp_path, together):
    argv = short_run(tmp_path, "--only_save_embeds", "--max_train_steps", "50000", "--eval_steps", "0")
    command = [sys.executable, str(ROOT / "train_textual_inversion.py"), *argv]
    output = tmp_path / "output.txt"  # lines of a step come on stderr, those of the start and the end on stdout
    with open(output, "w") as file:
        apart = dict(stdout=file, stderr=subprocess.PIPE)
        streams_of = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT) if together else apart
        process = subprocess.Popen(command, text=True, **streams_of)
    lines = process.stdout if together else process.stderr
    while "step " not in lines.readline():
        assert process.poll() is None
    lines.close()
    assert process.wait(timeout=100) == 141

    (checkpoint,) = (tmp_path / "out").glob("checkpoint-*")
    step = checkpoint.name.removeprefix("checkpoint-")
    said = f"stopped because nobody reads its output any more, after step {step} of 50000; {checkpoint.name} is saved"
    assert together or said in output.read_text()
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize("nohup", [False, True])
def test_a_closed_terminal_leaves_a_checkpoint_and_under_nohup_the_run_goes_on(tmp_path, nohup):
    steps = "100" if nohup else "50000"
    argv = short_run(tmp_path, "--only_save_embeds", "--max_train_steps", steps, "--eval_steps", "0", "--overview",
                     "false")  # fmt: skip
    command = [sys.executable, str(ROOT / "train_textual_inversion.py"), *argv]
    child, terminal = pty.fork()
    if child == 0:
        obey_all()
        if nohup:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.execv(command[0], command)
    shown = b""
    with contextlib.suppress(OSError):
        while b"step " not in shown:
            shown += os.read(terminal, 10_000)
    os.close(terminal)  # the child's session gets SIGHUP, and whatever it prints from now on fails
    status = _status_within(100, child)

    assert status == (0 if nohup else 129), shown
    assert len(list((tmp_path / "out").glob("checkpoint-*"))) == 1
    assert (tmp_path / "out/learned_embeds.safetensors").exists() is nohup


def _status_within(seconds, child):
    """The exit status of a child; of one that does not end, that of being killed."""
    killing = threading.Timer(seconds, os.kill, (child, signal.SIGKILL))
    killing.start()
    try:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        killing.cancel()


LOST_READER = """
import os, sys, threading
sys.path.insert(0, {root!r})
import train_textual_inversion
from textual_inversion.system.errors import run_command

def read(reader):
    with os.fdopen(reader) as lines:
        for line in lines:
            if line.startswith("step 1/"):
                return  # and the pipe has no reader any more

if os.environ["PADDLE_TRAINER_ID"] == "0":
    reader, writer = os.pipe()
    os.dup2(writer, 2)
    threading.Thread(target=read, args=(reader,), daemon=True).start()
    os.close(writer)
run_command(train_textual_inversion.main)
"""


@pytest.mark.slow
@pytest.mark.multiprocess
def test_if_the_reader_of_one_process_goes_away_all_end_after_one_step_with_one_checkpoint(tmp_path):
    script = tmp_path / "lost_reader.py"
    script.write_text(LOST_READER.format(root=str(ROOT)))
    argv = short_run(tmp_path, "--only_save_embeds", "--max_train_steps", "400", "--validation_prompt", "a <cat-toy>",
                     "--validation_steps", "4", "--train_batch_size", "1", "--num_validation_images", "1")  # fmt: skip
    launch = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir", tmp_path / "log"]

    subprocess.run([*launch, script, *argv], capture_output=True, text=True, timeout=280, cwd=tmp_path)

    log = (tmp_path / "log/workerlog.0").read_text()
    assert "stopped because nobody reads its output any more, after step " in log
    (checkpoint,) = (tmp_path / "out").glob("checkpoint-*")
    assert f"{checkpoint.name} is saved, resume with the same command" in log
    assert "Traceback" not in log + (tmp_path / "log/workerlog.1").read_text()
