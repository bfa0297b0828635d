"""A written folder: uploaded in the background, through outages, kills and other machines."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from helpers.object_stores import KEY, SECRET
from helpers.paths import ROOT
from textual_inversion.storage import writing
from textual_inversion.storage.fetching import WRITER
from textual_inversion.system import atomic
from textual_inversion.system.addresses import address_of, parsed, shown
from textual_inversion.system.errors import SettingsError, StorageError

RUN = parsed("s3://bucket/run")


def until(is_so, seconds=60.0):
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def finish():
    """The end of the command; the next begins anew."""
    for one in list(writing._written.values()):
        one.finish()


def on_another_machine(monkeypatch, tmp_path, name="other"):
    monkeypatch.setenv("TEXTUAL_INVERSION_STORAGE", str(tmp_path / name))


def test_what_is_written_is_uploaded_without_being_waited_for(bucket):
    folder = writing.written_folder(RUN)
    atomic.write_bytes(folder / "f", b"1")
    (folder / "by-a-library").write_bytes(b"2")  # what no watcher hears of
    until(lambda: {"run/f", "run/by-a-library"} <= bucket.objects.keys())
    atomic.remove_file(folder / "f")
    until(lambda: "run/f" not in bucket.objects)
    finish()
    assert address_of(folder / "f") == "s3://bucket/run/f"
    assert (
        shown(f"see {folder}/f, {folder}-2 and {folder}.") == f"see s3://bucket/run/f, {folder}-2 and s3://bucket/run."
    )


def test_another_machine_finds_what_was_written_and_goes_on(bucket, monkeypatch, tmp_path):
    atomic.write_bytes(writing.written_folder(RUN) / "f", b"1")
    finish()
    on_another_machine(monkeypatch, tmp_path)
    folder = writing.written_folder(RUN)
    assert str(tmp_path / "other") in str(folder) and (folder / "f").read_bytes() == b"1"
    atomic.write_bytes(folder / "f", b"2")
    finish()
    on_another_machine(monkeypatch, tmp_path, "machine")  # the first again, whose folder is out of date
    assert (writing.written_folder(RUN) / "f").read_bytes() == b"2"
    finish()
    assert bucket.objects["run/f"] == b"2"


def test_what_waits_here_when_another_machine_went_on_is_kept_and_named(bucket, monkeypatch, tmp_path, capfd):
    monkeypatch.setenv(writing.WAIT, "0.1")
    folder = writing.written_folder(RUN)
    bucket.is_down = True
    atomic.write_bytes(folder / "f", b"never uploaded")
    with pytest.raises(StorageError, match=r"1 file\(s\) are missing at s3://bucket/run: f"):
        finish()
    bucket.is_down = False
    on_another_machine(monkeypatch, tmp_path)
    atomic.write_bytes(writing.written_folder(RUN) / "f", b"2")
    finish()
    on_another_machine(monkeypatch, tmp_path, "machine")
    assert (writing.written_folder(RUN) / "f").read_bytes() == b"2"
    finish()
    kept = folder.with_name("run.kept-1")
    assert (kept / "f").read_bytes() == b"never uploaded" and str(kept) in capfd.readouterr().err
    assert bucket.objects["run/f"] == b"2"


def test_what_is_missing_is_uploaded_by_the_next_command(bucket, monkeypatch):
    monkeypatch.setenv(writing.WAIT, "0.1")
    folder = writing.written_folder(RUN)
    atomic.write_bytes(folder / "there", b"1")
    until(lambda: "run/there" in bucket.objects)
    bucket.is_down = True
    for name in "abcdefg":
        atomic.write_bytes(folder / name, name.encode())
    with pytest.raises(StorageError) as caught:
        finish()
    message = str(caught.value)
    assert (
        "7 file(s) are missing at s3://bucket/run: a, b, c, d, e and 2 more (s3://bucket cannot be reached)" in message
    )
    assert str(folder.parent) in message and "the next command" in message
    bucket.is_down = False
    writing.written_folder(RUN)
    finish()
    assert {f"run/{name}" for name in "abcdefg"} <= bucket.objects.keys()


def test_an_outage_is_told_once_and_tried_until_it_ends(bucket, capfd, monkeypatch):
    monkeypatch.setattr(writing, "_LONGEST_PAUSE", 0.05)
    folder = writing.written_folder(RUN)
    bucket.is_down = True
    begun = time.monotonic()
    atomic.write_bytes(folder / "f", b"1")
    assert time.monotonic() - begun < 5
    uploader = writing._written[RUN]
    until(lambda: uploader._told)
    until(lambda: uploader.tries > 3)
    bucket.is_down = False
    until(lambda: "run/f" in bucket.objects)
    finish()
    said = capfd.readouterr().err
    assert (
        said.count("s3://bucket cannot be reached; the command goes on, 1 file waits here, and it is tried again") == 1
    )
    assert said.count("s3://bucket/run can be reached again") == 1


def test_the_wait_lasts_as_long_as_something_goes_on(bucket, monkeypatch):
    monkeypatch.setenv(writing.WAIT, "1.0")
    folder = writing.written_folder(RUN)
    bucket.after = lambda: time.sleep(0.4)
    for name in "abcdef":
        atomic.write_bytes(folder / name, b"1")
    finish()  # takes longer than the wait
    assert len(bucket.objects) == 7


def test_the_earlier_of_two_writers_stops_and_says_so(bucket, monkeypatch, tmp_path, capfd):
    monkeypatch.setenv(writing.WAIT, "0.5")
    first = writing.written_folder(RUN)
    mine = writing._written.pop(RUN)
    on_another_machine(monkeypatch, tmp_path)
    second = writing.written_folder(RUN)
    atomic.write_bytes(second / "f", b"second")
    until(lambda: bucket.objects.get("run/f") == b"second")
    atomic.write_bytes(first / "f", b"first")
    with pytest.raises(StorageError, match="another machine writes to s3://bucket/run now"):
        mine.finish()
    finish()
    assert bucket.objects["run/f"] == b"second"
    assert "nothing more is uploaded from here" in capfd.readouterr().err


def test_a_checkpoint_without_its_sums_is_passed_over_and_said(bucket, monkeypatch, tmp_path, capfd):
    bucket.objects |= {"run/checkpoint-10/SHA256SUMS": b"", "run/checkpoint-10/state.safetensors": b"1",
                       "run/checkpoint-20/state.safetensors": b"2", "run/files.json": b"{}"}  # fmt: skip
    folder = writing.written_folder(RUN)
    assert (folder / "checkpoint-10").is_dir() and not (folder / "checkpoint-20").exists()
    assert "checkpoint-20: not completely uploaded, so passed over" in capfd.readouterr().err
    finish()
    assert "run/checkpoint-20/state.safetensors" in bucket.objects  # not ours to remove


def test_a_torn_checkpoint_of_a_run_inside_is_passed_over_too(bucket, capfd):
    bucket.objects |= {"run/trials/000/checkpoint-10/state.safetensors": b"1", "run/trials/000/run.json": b"{}"}
    folder = writing.written_folder(RUN)
    assert (folder / "trials/000/run.json").is_file() and not (folder / "trials/000/checkpoint-10").exists()
    assert "trials/000/checkpoint-10: not completely uploaded" in capfd.readouterr().err


def test_only_the_named_files_are_brought_here(bucket):
    bucket.objects |= {"out/cat.pt": b"1", "out/huge": b"2"}
    folder = writing.written_folder(parsed("s3://bucket/out"), names=lambda name: name == "cat.pt")
    assert [path.name for path in folder.iterdir()] == ["cat.pt"]
    finish()
    assert bucket.objects["out/huge"] == b"2"


def test_the_other_processes_of_a_start_upload_at_their_end(bucket):
    folder = writing.written_folder(RUN)
    beside = writing.WrittenFolder(RUN, is_main=False)
    assert beside.begin(lambda name: True) == folder
    finish()
    atomic.write_bytes(folder / "late", b"1")
    bucket.is_down = True
    threading.Timer(0.5, lambda: setattr(bucket, "is_down", False)).start()  # an outage is waited out there, too
    beside.finish()
    assert bucket.objects["run/late"] == b"1"


def test_a_folder_below_a_written_one_is_found_in_it(bucket):
    folder = writing.written_folder(RUN)
    atomic.make_folder(folder / "checkpoint-10")
    assert writing.within(parsed("s3://bucket/run/checkpoint-10")) == folder / "checkpoint-10"
    assert writing.within(parsed("s3://bucket/run/checkpoint-20")) is None
    assert writing.within(parsed("s3://bucket/running")) is writing.within(RUN) is None


def test_whoever_only_looks_signs_nothing(bucket):
    bucket.objects["run/f"] = b"1"
    writing.folder_of(RUN)
    assert bucket.changes == [] and f"run/{WRITER}" not in bucket.objects


@pytest.mark.parametrize(("number", "said"), [(signal.SIGINT, "the wait was interrupted"), (signal.SIGTERM, "SIGTERM"),
                                               (signal.SIGHUP, "SIGHUP")])  # fmt: skip
def test_a_signal_ends_the_wait_in_one_line_with_what_is_missing(bucket, monkeypatch, number, said):
    monkeypatch.setattr(writing, "_SIGNAL_SECONDS", 0.3)
    folder = writing.written_folder(RUN)
    bucket.is_down = True
    atomic.write_bytes(folder / "f", b"1")
    begun = time.monotonic()
    threading.Timer(0.5, lambda: os.kill(os.getpid(), number)).start()
    before = signal.getsignal(number)
    with pytest.raises(StorageError, match=rf"1 file\(s\) are missing at s3://bucket/run: f \(.*{said}"):
        finish()
    assert time.monotonic() - begun < 60 and signal.getsignal(number) is before


def test_after_a_signal_what_goes_on_is_uploaded(bucket):
    folder = writing.written_folder(RUN)
    bucket.is_down = True
    atomic.write_bytes(folder / "f", b"1")
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
    threading.Timer(0.8, lambda: setattr(bucket, "is_down", False)).start()
    finish()
    assert bucket.objects["run/f"] == b"1"


def test_a_wait_that_is_no_number_is_refused_before_anything_begins(bucket, monkeypatch):
    monkeypatch.setenv(writing.WAIT, "soon")
    with pytest.raises(SettingsError):
        writing.written_folder(RUN)
    assert bucket.changes == [] and RUN not in writing._written


def test_a_wait_that_is_no_number_is_refused(monkeypatch):
    for text in ("soon", "-1", "nan"):
        monkeypatch.setenv(writing.WAIT, text)
        with pytest.raises(SettingsError, match="TEXTUAL_INVERSION_UPLOAD_WAIT should be a number of seconds"):
            writing._wait_seconds()


WRITE_ON = """
import sys, time
from textual_inversion.storage import writing
from textual_inversion.system import atomic
from textual_inversion.system.addresses import parsed
from textual_inversion.system.errors import run_command

def main():
    folder = writing.written_folder(parsed("s3://bucket/run"))
    first = len(list(folder.glob("file-*")))
    print("begun", first, flush=True)
    for number in range(first, int(sys.argv[1])):
        with atomic.fill_folder(folder / f"checkpoint-{number}") as made:
            for name in ("state.safetensors", "SHA256SUMS"):
                atomic.write_new(made / name, str(number).encode() * 1000)
        atomic.write_text(folder / f"file-{number}", str(number))
        time.sleep(0.05)

run_command(main)
"""


@pytest.mark.slow
def test_killed_at_random_and_started_again_nothing_is_lost_or_torn(service):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for wanted in (10, 20, 30):
        command = [sys.executable, "-c", WRITE_ON, "100000"]
        child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline().startswith("begun")
        until(lambda n=wanted: len(service.names("run")) > n, 300.0)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        there = service.names("run")
        for name in [name for name in there if name.endswith("SHA256SUMS")]:
            top = service.files / "bucket/run" / os.path.dirname(name)
            assert (top / "state.safetensors").read_bytes() == (top / "SHA256SUMS").read_bytes()
    done = subprocess.run([sys.executable, "-c", WRITE_ON, "0"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    count = int(done.stdout.split()[1])
    there = service.names("run") - {WRITER}
    assert {f"file-{number}" for number in range(count)} <= there and count >= 5
    assert {f"checkpoint-{number}/SHA256SUMS" for number in range(count)} <= there


@pytest.mark.slow
def test_a_command_that_cannot_upload_ends_with_status_2_and_one_that_can_with_0(service):
    environment = os.environ | {"PYTHONPATH": str(ROOT), writing.WAIT: "1"}
    command = [sys.executable, "-c", WRITE_ON.replace("range(first", "input() and range(first"), "3"]
    child = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)  # fmt: skip
    assert child.stdout.readline() == "begun 0\n"
    service.stop()
    _, said = child.communicate("go\n", timeout=300)
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert child.returncode == 2 and len(errors) == 1, said
    assert "are missing at s3://bucket/run" in errors[0] and "Traceback" not in said
    assert KEY not in said and SECRET not in said
    service.start()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, input="go\n")
    assert done.returncode == 0 and {"file-0", "file-1", "file-2"} <= service.names("run"), done.stderr
