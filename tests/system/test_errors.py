"""A command's errors: one line and status 2 for the user's, a traceback for ours."""

import os
import subprocess
import sys

import pytest

from helpers.paths import ROOT
from textual_inversion.system import errors
from textual_inversion.system.errors import LONGEST_LINE, SettingsError, TextualInversionError, run_command


def fail(error):
    def main():
        raise error

    return main


def test_a_users_error_is_one_line_and_status_2(capsys):
    with pytest.raises(SystemExit) as left:
        run_command(fail(SettingsError("--x is wrong;\n  take --y")))

    assert left.value.code == 2
    assert capsys.readouterr().err == "error: --x is wrong; take --y\n"


def test_our_own_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        run_command(fail(ZeroDivisionError()))


@pytest.mark.parametrize(("returned", "status"), [(None, 0), (0, 0), (143, 143)])
def test_what_main_returns_is_the_status(returned, status):
    with pytest.raises(SystemExit) as left:
        run_command(lambda: returned)

    assert left.value.code == status


@pytest.mark.parametrize(
    ("body", "status"),
    [("print_line('x'); print_line('y')", 0), ("raise errors.OutputError('cannot write y')", 2)],
)
def test_output_that_goes_to_a_full_disk_does_not_change_the_status(body, status):
    program = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from textual_inversion.system import errors
from textual_inversion.system.progress import print_line
def main():
    {body}
errors.run_command(main)
"""
    with open("/dev/full", "wb") as full:
        done = subprocess.run([sys.executable, "-c", program], stdout=full, stderr=full, timeout=60)

    assert done.returncode == status


def test_a_lack_of_memory_names_what_takes_it(capsys):
    def main():
        raise MemoryError("pages of C++")

    with pytest.raises(SystemExit) as left:
        run_command(main)
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith("error: there is not enough memory for this; lower --train_batch_size")


def test_a_name_cannot_steer_the_terminal(capsys):
    def main():
        raise TextualInversionError("a\x1b[31m\nfile")

    with pytest.raises(SystemExit):
        run_command(main)
    assert capsys.readouterr().err == "error: a\N{REPLACEMENT CHARACTER}[31m file\n"


def test_letters_that_the_terminal_lacks_are_written_out():
    code = "from textual_inversion.system.errors import run_command; run_command(lambda: print('猫 ' + chr(0xdcff)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True,
                          env=dict(os.environ, PYTHONIOENCODING="ascii"))  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, b"\\u732b \\udcff"), done.stderr


def test_an_error_of_a_million_letters_is_shown_with_its_beginning_and_its_end(capsys):
    def main():
        raise SettingsError(f"words.txt: {'x' * 1_000_000} is no template; write {{}} once")

    with pytest.raises(SystemExit):
        run_command(main)

    (line,) = capsys.readouterr().err.splitlines()
    assert len(line) <= len("error: ") + LONGEST_LINE
    assert line.startswith("error: words.txt: xxx") and line.endswith("is no template; write {} once")


def test_what_is_to_be_done_at_the_end_is_done_however_a_command_ends(capsys):
    done = []

    def fails():
        done.append("tried")
        raise SettingsError("not all is there")

    def ends(main):
        errors.at_end(lambda: done.append("done"))
        errors.at_end(fails)
        with pytest.raises(SystemExit) as caught:
            run_command(main)
        return caught.value.code

    def refused():
        raise TextualInversionError("no")

    assert ends(lambda: None) == 2 and capsys.readouterr().err == "error: not all is there\n"
    assert ends(lambda: 3) == 3
    assert ends(refused) == 2 and "error: no\nerror: not all is there\n" in capsys.readouterr().err
    assert done == ["tried", "done"] * 3  # once each
