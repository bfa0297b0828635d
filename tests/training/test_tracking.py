"""What a run logs, read back by the readers of the two systems."""

import importlib.util
import io
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from textual_inversion.system.errors import OutputError, SettingsError
from textual_inversion.training.tracking import Tracker, open_tracker


def image():
    pixels = np.zeros((8, 12, 3), np.uint8)
    pixels[:, :6] = (200, 10, 30)  # red and blue differ: a swap of channels would show
    return Image.fromarray(pixels)


def read_visualdl(folder):
    from visualdl import LogReader

    (file,) = folder.glob("vdlrecords*")
    return LogReader(file_path=str(file))


def decoded(record):
    return np.asarray(Image.open(io.BytesIO(record.image.encoded_image_string)).convert("RGB"))


def test_visualdl_holds_the_scalars(tmp_path):
    with open_tracker("visualdl", tmp_path / "a" / "logs") as tracker:
        for step in (1, 2, 5):
            tracker.scalar("train/loss", step / 10, step)
        tracker.scalar("train/lr", np.float32(0.5), 5)

    reader = read_visualdl(tmp_path / "a" / "logs")

    assert [(point.id, round(point.value, 6)) for point in reader.get_data("scalar", "train/loss")] == [
        (1, 0.1),
        (2, 0.2),
        (5, 0.5),
    ]
    assert [point.value for point in reader.get_data("scalar", "train/lr")] == [0.5]


def test_visualdl_holds_the_images(tmp_path):
    with open_tracker("visualdl", tmp_path) as tracker:
        tracker.image("samples/100% a <cat-toy>", image(), 7)

    (record,) = read_visualdl(tmp_path).get_data("image", "samples/100 percent a <cat-toy>")

    assert record.id == 7
    assert np.array_equal(decoded(record), np.asarray(image()))


def test_visualdl_holds_the_texts(tmp_path):
    with open_tracker("visualdl", tmp_path) as tracker:
        tracker.text("samples", "100% a <cat-toy>\n\n一张照片", 7)

    (record,) = read_visualdl(tmp_path).get_data("text", "samples")
    assert (record.id, record.text.encoded_text_string) == (7, "100% a <cat-toy>\n\n一张照片")


@pytest.mark.parametrize("value", [0, 1])
def test_a_black_image_stays_black(tmp_path, value):
    with open_tracker("visualdl", tmp_path) as tracker:
        tracker.image("sample", Image.new("RGB", (8, 8), (value, 0, 0)), 1)
    (record,) = read_visualdl(tmp_path).get_data("image", "sample")
    assert decoded(record).max() == 0


def test_two_runs_in_a_row_get_a_file_each_and_the_later_one_is_shown(tmp_path):
    for value in (1.0, 2.0):
        with open_tracker("visualdl", tmp_path) as tracker:
            tracker.scalar("loss", value, 1)
    files = sorted(path.name for path in tmp_path.glob("vdlrecords*"))

    from visualdl import LogReader

    shown = LogReader(logdir=str(tmp_path)).logs(update=True)[str(tmp_path)]
    assert len(files) == 2 and shown == files[-1]
    assert [point.value for point in LogReader(file_path=str(tmp_path / shown)).get_data("scalar", "loss")] == [2.0]


def points(folder, tag="loss"):
    """What a reader that takes the last file of a folder, as VisualDL does, finds of a curve."""
    from visualdl import LogReader

    shown = LogReader(logdir=str(folder)).logs(update=True)[str(folder)]
    return [(point.id, point.value) for point in LogReader(file_path=str(folder / shown)).get_data("scalar", tag)]


def logged(folder, steps, resumed_at=None, *, close=True):
    tracker = open_tracker("visualdl", folder, resumed_at)
    for step in steps:
        tracker.scalar("loss", float(step), step)
        tracker.image("sample", image(), step)
    tracker.flush()
    if close:
        tracker.close()


@pytest.mark.parametrize("cut_off", [0, 1, 7, 20])
def test_a_resumed_log_continues_in_the_same_file_without_a_doubled_or_a_missing_step(tmp_path, cut_off):
    """Steps 4 and 5 were logged after the checkpoint, the last of them perhaps in part."""
    logged(tmp_path, [1, 2, 3, 4, 5])
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[: len(file.read_bytes()) - cut_off])

    logged(tmp_path, [4, 5, 6], resumed_at=4)

    assert points(tmp_path) == [(step, float(step)) for step in range(1, 7)]
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    images = read_visualdl(tmp_path).get_data("image", "sample")
    assert [record.id for record in images] == [1, 2, 3, 4, 5, 6]


def test_what_was_flushed_outlives_a_process_that_never_closes_its_log(tmp_path):
    logged(tmp_path, [1, 2, 3], close=False)
    assert [step for step, _ in points(tmp_path)] == [1, 2, 3]


def test_a_resumed_log_without_an_earlier_one_begins(tmp_path):
    logged(tmp_path, [4, 5], resumed_at=4)
    assert [step for step, _ in points(tmp_path)] == [4, 5]


def test_logging_prints_nothing(tmp_path, capfd):
    with open_tracker("visualdl", tmp_path) as tracker:
        tracker.scalar("loss", 1.0, 1)
        tracker.image("sample", image(), 1)
    assert capfd.readouterr() == ("", "")


def test_none_writes_nothing(tmp_path):
    with open_tracker("none", tmp_path / "logs") as tracker:
        tracker.scalar("loss", 1.0, 1)
        tracker.image("sample", image(), 1)
    assert not (tmp_path / "logs").exists()


def test_an_unknown_reporter_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="wandb.*visualdl, tensorboard, none"):
        open_tracker("wandb", tmp_path)


@pytest.mark.parametrize(
    "reporter, package, way_out",
    [("tensorboard", "tensorboardX", "visualdl"), ("visualdl", "visualdl", "none")],
)
def test_a_missing_package_names_the_command_that_installs_it(tmp_path, monkeypatch, reporter, package, way_out):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SettingsError, match=f"pip install {package}.*--report_to {way_out}"):
        open_tracker(reporter, tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "logs").write_text("in the way")
    with pytest.raises(OutputError, match="logs.*choose another"):
        open_tracker("visualdl", tmp_path / "logs")


class FullDisk:
    """A writer whose disk is full."""

    def add_scalar(self, *_):
        raise OSError(28, "No space left on device")

    add_image = close = add_scalar


def test_a_log_that_fails_is_said_once_and_does_not_end_the_run(capsys):
    tracker = Tracker(FullDisk())
    for step in range(3):
        tracker.scalar("loss", 1.0, step)
        tracker.image("sample", image(), step)
    tracker.close()
    assert capsys.readouterr().err.count("No space left on device") == 1


class Stuck:
    """A writer whose own thread has ended: it takes one call and never returns."""

    def __init__(self):
        self.never, self.calls = threading.Event(), 0

    def add_scalar(self, *_):
        self.calls += 1
        self.never.wait()


def test_a_log_that_takes_nothing_any_more_holds_up_neither_the_run_nor_its_end(capsys):
    writer = Stuck()
    tracker = Tracker(writer, patience=0.05)
    for step in range(200):
        tracker.scalar("loss", 1.0, step)
    tracker.close()

    assert writer.calls == 1 and capsys.readouterr().err.count("it takes too long") == 1


def test_an_end_does_not_wait_for_ever_for_what_is_still_to_be_written(capsys):
    tracker = Tracker(Stuck(), patience=0.05)
    tracker.scalar("loss", 1.0, 1)
    tracker.close()
    tracker.close()

    assert capsys.readouterr().err.count("it takes too long") == 1


class Recorder:
    """Takes what tensorboardX's SummaryWriter would take."""

    made = []

    def __init__(self, logdir, purge_step):
        self.calls = [("logdir", logdir, purge_step)]
        Recorder.made.append(self)

    def add_scalar(self, tag, value, step):
        self.calls.append((tag, value, step))

    def add_image(self, tag, pixels, step, dataformats):
        self.calls.append((tag, pixels.shape, step, dataformats))

    def add_text(self, tag, text, step):
        self.calls.append((tag, text, step))

    def flush(self):
        self.calls.append("flushed")

    def close(self):
        self.calls.append("closed")


@pytest.mark.parametrize("resumed_at", [None, 3])
def test_tensorboard_gets_the_same(tmp_path, monkeypatch, resumed_at):
    module = type(sys)("tensorboardX")
    module.SummaryWriter = Recorder
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    with open_tracker("tensorboard", tmp_path, resumed_at) as tracker:
        tracker.scalar("loss", 0.5, 3)
        tracker.image("sample", image(), 3)
        tracker.text("sample", "a <cat-toy>", 3)
        tracker.flush()
    assert Recorder.made[-1].calls == [
        ("logdir", str(tmp_path), resumed_at),
        ("loss", 0.5, 3),
        ("sample", (8, 12, 3), 3, "HWC"),
        ("sample", "a <cat-toy>", 3),
        "flushed",
        "closed",
    ]


@pytest.mark.skipif(importlib.util.find_spec("tensorboardX") is None, reason="tensorboardX is not installed")
def test_tensorboard_writes_an_event_file(tmp_path):
    with open_tracker("tensorboard", tmp_path) as tracker:
        tracker.scalar("loss", 0.5, 3)
        tracker.image("sample", image(), 3)
    (file,) = tmp_path.glob("events*")
    content = file.read_bytes()
    assert b"loss" in content and b"sample" in content and b"\x89PNG" in content
