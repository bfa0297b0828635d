"""What the machine lacks: one line and status 2, before anything is harmed."""

import resource
import shlex
import subprocess
import sys

import pytest

from helpers.paths import ROOT
from helpers.training_runs import short_run

SCRIPTS = {"train": "train_textual_inversion.py", "infer": "infer.py", "score": "score.py"}


def run(script, arguments, *, limit=None, cwd=None, **environment):
    import os

    def lower():
        if limit is not None:
            resource.setrlimit(*limit)

    command = [sys.executable, str(ROOT / script), *map(str, arguments)]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=200, preexec_fn=lower, cwd=cwd
    )


def assert_one_line(done, words):
    lines = [line for line in done.stderr.splitlines() if line]
    assert done.returncode == 2 and len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    assert words in lines[0] and "Traceback" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [200, 700, 1500, 2500])
@pytest.mark.parametrize("script", SCRIPTS.values())
def test_too_little_address_space_is_one_line(tmp_path, script, megabytes):
    arguments = [] if script != "score.py" else ["--embeds", "x.pdparams"]
    size = (resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    done = run(script, arguments, limit=size, cwd=tmp_path)
    assert_one_line(done, "")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.slow
@pytest.mark.parametrize("level", ["2", "3"])
def test_python_without_its_texts_is_one_line(tmp_path, level):
    done = run("train_textual_inversion.py", short_run(tmp_path), PYTHONOPTIMIZE=level)
    assert_one_line(done, "PYTHONOPTIMIZE")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("limit", [0, 10])
def test_no_room_for_the_lock_is_one_line(tmp_path, limit):
    size = (resource.RLIMIT_FSIZE, (limit, limit))
    done = run("train_textual_inversion.py", short_run(tmp_path), limit=size)
    assert_one_line(done, ".lock: no file may become so large here (ulimit -f)")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.slow
def test_too_few_open_files_is_one_line(tmp_path):
    done = run("train_textual_inversion.py", short_run(tmp_path), limit=(resource.RLIMIT_NOFILE, (7, 7)))
    assert_one_line(done, "")


@pytest.mark.slow
@pytest.mark.parametrize("kept", [0, 1])
def test_a_disk_that_is_full_before_the_first_step_is_one_line(tmp_path, kept):
    """A real one, of which `kept` pages are free."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a disk of their own here")
    argv = short_run(tmp_path, "--output_dir", str(tmp_path / "disk" / "out"))
    (tmp_path / "disk").mkdir()
    disk = shlex.quote(str(tmp_path / "disk"))
    script = f"""
mount -t tmpfs -o size=64k tmpfs {disk} && mkdir {disk}/out
cat /dev/zero > {disk}/ballast 2>/dev/null
truncate -s -{4096 * kept} {disk}/ballast
{shlex.join([sys.executable, str(ROOT / "train_textual_inversion.py"), *argv])}
status=$?
ls -A {disk}/out
exit $status
"""
    done = subprocess.run(["unshare", "-rm", "bash", "-c", script], capture_output=True, text=True, timeout=200)
    assert_one_line(done, "the disk is full")
    assert not set(done.stdout.splitlines()) & {".lock", "run.json", "learned_embeds.pdparams"}, done.stdout
