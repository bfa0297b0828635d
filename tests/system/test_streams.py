"""Closed, full and broken standard streams: what is printed is dropped, and files never get their numbers."""

import os
import subprocess
import sys

import pytest

from helpers.paths import ROOT
from textual_inversion.system import streams

CONSOLE = "-c 'from textual_inversion.commands import main; main()'"
COMMANDS = [*(str(ROOT / name) for name in ("train_textual_inversion.py", "infer.py", "score.py")), f"{CONSOLE} train"]
# What a shell makes of a command, and where an error is then found: "error.txt" is stderr, "output.txt" stdout.
CLOSED = {
    ">output.txt 2>error.txt <&-": "error.txt",
    ">&- 2>error.txt": "error.txt",
    ">output.txt 2>&-": "output.txt",
    "<&- >output.txt 2>&-": "output.txt",
    ">&- 2>&-": None,
    "<&- >&- 2>&-": None,
    ">/dev/full 2>error.txt": "error.txt",
    ">output.txt 2>/dev/full": "output.txt",
    ">/dev/full 2>/dev/full": None,
    ">output.txt 2>output.txt <&-": "output.txt",
    "2>error.txt | true": "error.txt",
    "3>&1 >output.txt 2>&3 3>&- | true": "output.txt",
    "2>&1 | true": None,
}


START = f"""import sys
sys.path.insert(0, {str(ROOT)!r})
from textual_inversion.system.errors import run_command
"""


def in_shell(code: str, redirection: str, folder):
    """Run Python code as a command of this project, with a shell's redirection."""
    (folder / "program.py").write_text(START + code)
    line = f"set -o pipefail; {sys.executable} program.py {redirection}"
    return subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("redirection", CLOSED)
def test_a_users_error_is_status_2_and_finds_a_stream_that_is_left(tmp_path, redirection):
    code = """
from textual_inversion.system.errors import SettingsError
def main():
    print("before")
    print("a note", file=sys.stderr, flush=True)
    raise SettingsError("--x is wrong; take --y")
run_command(main)
"""
    done = in_shell(code, redirection, tmp_path)

    assert done.returncode == 2 and done.stdout + done.stderr == ""
    if CLOSED[redirection]:
        assert "error: --x is wrong; take --y\n" in (tmp_path / CLOSED[redirection]).read_text()


@pytest.mark.parametrize("redirection", CLOSED)
@pytest.mark.parametrize("printing", ["print('x' * 100000)", "print('x', flush=True)", "print('x', file=sys.stderr)",
                                      "sys.stdout.write('x')"])  # fmt: skip
def test_nothing_that_is_printed_ends_the_work_or_changes_the_status(tmp_path, redirection, printing):
    code = f"""
def main():
    {printing}
    {printing}
    open("done", "w").close()
run_command(main)
"""
    done = in_shell(code, redirection, tmp_path)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "") and (tmp_path / "done").exists()


@pytest.mark.parametrize("unbuffered", ["", "-u"])
def test_what_can_be_printed_is(tmp_path, unbuffered):
    program = START + "run_command(lambda: print('x' * 300000) or print('猫', file=sys.stderr))"
    command = [sys.executable, *unbuffered.split(), "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=60,
                          env=dict(os.environ, PYTHONIOENCODING="utf-8"))  # fmt: skip
    assert (done.returncode, len(done.stdout), done.stderr) == (0, 300001, "猫\n")


def test_a_file_never_gets_the_number_of_a_closed_stream(tmp_path):
    code = """
import os, subprocess
def main():
    with open("checkpoint", "w") as file:
        assert file.fileno() > 2
        print("a line of output", flush=True)
        print("a line of output", file=sys.stderr, flush=True)
        os.write(1, b"a native line")
        subprocess.run(["sh", "-c", "echo a line of a child; cat"], check=True)
        file.write("vectors")
    assert open("checkpoint").read() == "vectors" and sys.stdin.read() == ""
run_command(main)
"""
    done = in_shell(code, "<&- >&- 2>&-", tmp_path)
    assert done.returncode == 0 and (tmp_path / "checkpoint").read_text() == "vectors"


def test_a_pipe_that_another_program_made_non_blocking_gets_everything(tmp_path):
    code = """
import os
def main():
    os.set_blocking(1, False)
    print("x" * 1_000_000)
run_command(main)
"""
    done = in_shell(code, "| (sleep 0.5; cat) | wc -c >size.txt", tmp_path)
    assert done.returncode == 0 and (tmp_path / "size.txt").read_text().strip() == "1000001"


def test_a_lost_reader_is_told_once_in_the_thread_that_writes(tmp_path):
    code = """
import os, threading, time
from textual_inversion.system import streams
def main():
    calls = []
    time.sleep(0.5)
    with streams.listening(lambda: calls.append(threading.current_thread().name)):
        print("x", flush=True)
        print("x", flush=True)
    open("calls", "w").write(str(calls))
run_command(main)
"""
    done = in_shell(code, "| true", tmp_path)
    assert done.returncode == 0 and (tmp_path / "calls").read_text() == "['MainThread']"


def test_streams_that_a_program_has_replaced_stay(capsys):
    before = sys.stdout, sys.stderr
    streams.prepare()
    assert (sys.stdout, sys.stderr) == before
    streams.print_error("x")
    assert capsys.readouterr().err == "x\n"


# ---------------------------------------------------------------------------------------------------- the commands


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("redirection", [">&- 2>&-", ">output.txt 2>&-", "2>&1 >/dev/full | cat >output.txt"])
def test_every_command_refuses_with_status_2_whatever_its_streams(tmp_path, command, redirection):
    line = f"set -o pipefail; {sys.executable} {command} --sed 3 {redirection}"
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    done = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 2 and done.stdout + done.stderr == ""
    if "output.txt" in redirection:
        assert (tmp_path / "output.txt").read_text().startswith("error: --sed is not a flag of ")


@pytest.mark.slow
@pytest.mark.parametrize("redirection", ["<&- >&- 2>&-", ">/dev/full 2>&1", "| true"])
def test_help_and_usage_end_quietly(tmp_path, redirection):
    for words in ("train --help", "--help", "score --help"):
        line = f"set -o pipefail; {sys.executable} {CONSOLE} {words} {redirection}"
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True,
                              env=dict(os.environ, PYTHONPATH=str(ROOT)), timeout=60)  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
