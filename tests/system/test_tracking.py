"""What a run logs, read back as the two systems read it."""

import importlib.util
import io
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from textual_inversion.system.errors import OutputError, SettingsError
from textual_inversion.system.tracking import Tracker, open_tracker


def sample_image():
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
        tracker.image("samples/100% a <cat-toy>", sample_image(), 7)

    (record,) = read_visualdl(tmp_path).get_data("image", "samples/100 percent a <cat-toy>")

    assert record.id == 7
    assert np.array_equal(decoded(record), np.asarray(sample_image()))


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


def logged(folder, steps, resumed_at=None, *, close=True, shift=0.0):
    tracker = open_tracker("visualdl", folder, resumed_at)
    for step in steps:
        tracker.scalar("loss", step + shift, step)
        tracker.image("sample", sample_image(), step)
    tracker.flush()
    if close:
        tracker.close()


@pytest.mark.parametrize("cut_off", [0, 1, 7, 20])
def test_a_resumed_log_goes_on_in_the_same_file_without_a_doubled_or_a_missing_step(tmp_path, cut_off):
    """Steps 4 and 5 were logged after the checkpoint, the last of them perhaps in part."""
    logged(tmp_path, [1, 2, 3, 4, 5])
    (file,) = tmp_path.glob("vdlrecords*")
    file.write_bytes(file.read_bytes()[: len(file.read_bytes()) - cut_off])

    logged(tmp_path, [4, 5, 6], resumed_at=4, shift=0.5)

    assert points(tmp_path) == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.5), (5, 5.5), (6, 6.5)]
    assert [path.name for path in tmp_path.glob("vdlrecords*")] == [file.name]
    images = read_visualdl(tmp_path).get_data("image", "sample")
    assert [record.id for record in images] == [1, 2, 3, 4, 5, 6]


def test_a_record_of_which_only_the_length_was_written_goes(tmp_path):
    logged(tmp_path, [1, 2, 3])
    (file,) = tmp_path.glob("vdlrecords*")
    with file.open("ab") as stream:
        stream.write((100).to_bytes(8, "little"))

    logged(tmp_path, [3], resumed_at=3)

    assert [step for step, _ in points(tmp_path)] == [1, 2, 3]


def test_what_was_flushed_outlives_a_process_that_never_closes_its_log(tmp_path):
    logged(tmp_path, [1, 2, 3], close=False)
    assert [step for step, _ in points(tmp_path)] == [1, 2, 3]


def test_a_log_that_goes_on_without_an_earlier_one_begins(tmp_path):
    logged(tmp_path, [4, 5], resumed_at=4)
    assert [step for step, _ in points(tmp_path)] == [4, 5]


def test_logging_prints_nothing(tmp_path, capfd):
    with open_tracker("visualdl", tmp_path) as tracker:
        tracker.scalar("loss", 1.0, 1)
        tracker.image("sample", sample_image(), 1)
    assert capfd.readouterr() == ("", "")


def test_none_writes_nothing(tmp_path):
    with open_tracker("none", tmp_path / "logs") as tracker:
        tracker.scalar("loss", 1.0, 1)
        tracker.image("sample", sample_image(), 1)
    assert not (tmp_path / "logs").exists()


def test_an_unknown_reporter_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="paper.*visualdl, tensorboard, wandb, mlflow, swanlab, none"):
        open_tracker("paper", tmp_path)


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
        tracker.image("sample", sample_image(), step)
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

    def __init__(self, logdir, purge_step, filename_suffix):
        self.calls, self.suffix = [("logdir", logdir, purge_step)], filename_suffix
        Recorder.made.append(self)

    def add_scalar(self, tag, value, step):
        self.calls.append((tag, value, step))

    @property
    def file_writer(self):
        return self

    def add_summary(self, record, step):
        self.calls.extend((value.tag, value.pixels.shape, step, value.dataformats) for value in record.value)

    def add_text(self, tag, text, step):
        self.calls.append((tag, text, step))

    def close(self):
        self.calls.append("closed")


def image_record(tag, pixels, dataformats):
    return SimpleNamespace(value=[SimpleNamespace(tag=tag, pixels=pixels, dataformats=dataformats)])


@pytest.mark.parametrize("resumed_at", [None, 3])
def test_tensorboard_gets_the_same(tmp_path, monkeypatch, resumed_at):
    module = type(sys)("tensorboardX")
    module.SummaryWriter = Recorder
    module.summary = SimpleNamespace(image=image_record)
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    with open_tracker("tensorboard", tmp_path, resumed_at) as tracker:
        tracker.scalar("loss", 0.5, 3)
        tracker.image("sample", sample_image(), 3)
        tracker.text("sample", "a <cat-toy>", 3)
        tracker.flush()
    first, second = Recorder.made[-2:]
    assert len({recorder.suffix for recorder in Recorder.made}) == len(Recorder.made)  # no two files are one
    assert first.calls == [
        ("logdir", str(tmp_path), resumed_at),
        ("loss", 0.5, 3),
        ("sample", (8, 12, 3), 3, "HWC"),
        ("sample", "a <cat-toy>", 3),
        "closed",  # the only thing that waits for all of them
    ]
    assert second.calls == [("logdir", str(tmp_path), None), "closed"]  # which takes nothing back


needs_tensorboardx = pytest.mark.skipif(
    importlib.util.find_spec("tensorboardX") is None, reason="tensorboardX is not installed"
)


def shown_by_tensorboard(folder):
    """What TensorBoard shows of each tag, as [(step, value)]: it reads all files in the order of their names.

    Where a session starts at a step, it drops all that it has read of that step and of later ones.
    """
    from tensorboardX.proto.event_pb2 import Event

    shown = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content, position = path.read_bytes(), 0
        while position < len(content):
            end = position + 12 + int.from_bytes(content[position : position + 8], "little")
            event = Event.FromString(content[position + 12 : end])  # behind length and check sum
            position = end + 4
            if event.session_log.status == 1:  # START
                shown = {tag: [point for point in points if point[0] < event.step] for tag, points in shown.items()}
            for value in event.summary.value:
                shown.setdefault(value.tag, []).append((event.step, round(value.simple_value, 4)))
    return shown


@needs_tensorboardx
def test_a_resumed_log_for_tensorboard_has_every_step_once(tmp_path):
    """Twice resumed within one second, the second time from the same checkpoint; each run logs other values."""
    for run, (steps, resumed_at) in enumerate([([1, 2, 3, 4, 5], None), ([4, 5], 4), ([4, 5, 6], 4)]):
        tracker = open_tracker("tensorboard", tmp_path, resumed_at)
        for step in steps:
            tracker.scalar("loss", step + run / 10, step)
            tracker.image("sample", sample_image(), step)
        tracker.flush()  # the first run is killed, and never closes its log
        if run:
            tracker.close()

    shown = shown_by_tensorboard(tmp_path)
    assert shown["loss"] == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.2), (5, 5.2), (6, 6.2)]
    assert [step for step, _ in shown["sample"]] == [1, 2, 3, 4, 5, 6]


@needs_tensorboardx
def test_tensorboard_writes_an_event_file(tmp_path):
    with open_tracker("tensorboard", tmp_path) as tracker:
        tracker.scalar("loss", 0.5, 3)
        tracker.image("sample", sample_image(), 3)
    (file,) = tmp_path.glob("events*")
    content = file.read_bytes()
    assert b"loss" in content and b"sample" in content and b"\x89PNG" in content


@needs_tensorboardx
def test_the_tag_of_an_image_is_not_changed_for_tensorboard(tmp_path):
    """tensorboardX would make both of them `a__cat-toy__`."""
    tags = ["a <cat-toy>!", "a <cat-toy>?", "一只猫/seed = 3, guidance_scale = 7.5"]
    with open_tracker("tensorboard", tmp_path) as tracker:
        for tag in tags:
            tracker.image(tag, sample_image(), 1)

    assert list(shown_by_tensorboard(tmp_path)) == tags
