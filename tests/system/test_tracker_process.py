"""Trackers through their packages, each in a process of its own: what they are told, and what they cannot do to a run.

The first tests use stand-ins for the packages. The last ones use the packages themselves, and are skipped without them.
"""

import importlib.util
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from helpers.paths import ROOT
from helpers.tracker_doubles import Doubles
from textual_inversion.settings.choices import TRACKERS
from textual_inversion.system import reporters, tracker_process, tracking
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.hosted_trackers import TRACKERS as HOSTED
from textual_inversion.system.tracking import Tracker, open_tracker

RED = Image.fromarray(np.full((8, 12, 3), (200, 10, 30), np.uint8))
SETTINGS = {"learning_rate": 0.5, "validation_prompt": ["a <cat>"]}
each = pytest.mark.parametrize("name", HOSTED)


@pytest.fixture
def doubles(tmp_path, monkeypatch):
    return Doubles(tmp_path, monkeypatch)


def test_the_values_of_the_flag_are_the_reporters_and_none():
    assert TRACKERS == (*reporters.PACKAGES, reporters.NONE)
    assert set(reporters.PACKAGES) == {"visualdl", "tensorboard", *HOSTED}


@each
def test_each_gets_scalars_images_texts_and_settings(tmp_path, doubles, name):
    with open_tracker(name, tmp_path / "out" / "logs", settings=SETTINGS) as tracker:
        tracker.scalar("train/loss", 0.25, 3)
        tracker.image("samples/a cat", RED, 3)
        tracker.text("samples", "a <cat>", 4)

    (begun,) = doubles.told("init")
    assert begun["name"] == "out" and begun["run"] is None
    assert {key: str(value) for key, value in begun["settings"].items()} == {
        key: str(value) for key, value in SETTINGS.items()
    }
    scalar, image, text = doubles.logged()
    assert scalar == ("train/loss", 0.25, 3)
    assert image == ("samples/a cat", [8, 12, 3, [200, 10, 30]], 3)
    assert text[0].startswith("samples/") and text[1:] == ("a <cat>", 4)
    assert [one["failed"] for one in doubles.told("finish")] == [False]


def test_a_loss_that_is_no_number_reaches_it(tmp_path, doubles):
    with open_tracker("wandb", tmp_path) as tracker:
        tracker.scalar("loss", float("nan"), 1)

    ((_, value, _),) = doubles.logged()
    assert value != value


@each
def test_a_resumed_run_goes_on_in_the_same_run_and_a_new_one_does_not(tmp_path, doubles, name):
    for resumed_at in (None, 4, None):
        with open_tracker(name, tmp_path / "logs", resumed_at) as tracker:
            tracker.scalar("loss", 1.0, 4)

    assert [one["run"] for one in doubles.told("init")] == [None, "run-1", None]


@each
@pytest.mark.parametrize("content", ["[]", '{"run": "../../etc"}', '{"run": 3}', "{", ""])
def test_a_file_that_names_no_run_is_no_run(tmp_path, doubles, name, content):
    (tmp_path / f"{name}.json").write_text(content)
    open_tracker(name, tmp_path, 4).close()

    assert [one["run"] for one in doubles.told("init")] == [None]


@each
def test_one_that_cannot_begin_says_why_and_what_to_do_in_a_line(tmp_path, doubles, name):
    doubles.let("init")
    with pytest.raises(SettingsError) as refused:
        open_tracker(name, tmp_path)

    said = str(refused.value)
    assert re.match(rf"--report_to {name}: the server refuses to init.*; (log in|set MLFLOW).*, or leave it out$", said)
    assert "\n" not in said


def test_one_that_does_not_begin_is_not_waited_for_and_leaves_nothing_behind(tmp_path, doubles, monkeypatch):
    doubles.let("-init")
    monkeypatch.setattr(tracker_process.Writer.begin, "__defaults__", (3.0,))
    with pytest.raises(SettingsError, match="--report_to wandb: it does not begin within 3 seconds; log in"):
        open_tracker("wandb", tmp_path)

    assert doubles.services_that_live() == []


@each
def test_one_that_fails_in_the_middle_is_noted_once_and_the_others_go_on(tmp_path, doubles, name, capsys):
    doubles.let("log")
    with open_tracker([name, "visualdl"], tmp_path) as tracker:
        for step in range(3):
            tracker.scalar("loss", 1.0, step)
            tracker.flush()

    said = capsys.readouterr().err
    assert said.count("warning") == 1 and f"the log for {name} can no longer be written (the server refuses" in said
    from visualdl import LogReader

    (file,) = tmp_path.glob("vdlrecords*")
    assert [point.id for point in LogReader(file_path=str(file)).get_data("scalar", "loss")] == [0, 1, 2]


@pytest.mark.parametrize("method", ["log", "finish"])
def test_one_that_hangs_is_ended_with_all_that_it_started(tmp_path, doubles, method, capsys):
    doubles.let(f"-{method}")
    writer = tracker_process.open_writer("wandb", tmp_path, None, {})
    tracker = Tracker(writer, patience=2.0, name="wandb")
    tracker.scalar("loss", 1.0, 1)
    doubles.wait_for("log")
    begun = time.monotonic()
    tracker.close()

    assert time.monotonic() - begun < 10
    assert doubles.told("service") and doubles.services_that_live() == []
    assert writer._process.poll() is not None
    assert capsys.readouterr().err.count("the log for wandb can no longer be written (it takes too long)") == 1


def test_the_run_of_a_process_that_died_ends_as_one_that_failed(tmp_path, doubles):
    code = (
        f"import os, sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from textual_inversion.system.tracking import open_tracker\n"
        f"tracker = open_tracker('wandb', {str(tmp_path)!r}); tracker.scalar('loss', 1.0, 1); tracker.flush()\n"
        "os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 9

    assert doubles.wait_for("finish")["failed"] is True


def test_its_process_sees_nothing_of_the_command_line(tmp_path, doubles):
    open_tracker("wandb", tmp_path).close()

    (begun,) = doubles.told("init")
    assert begun["argv"] == ["-c", str(ROOT), "wandb"]


def test_several_at_once_get_the_same_and_each_is_named_once(tmp_path, doubles):
    with open_tracker(["wandb", "swanlab", "wandb"], tmp_path) as tracker:
        tracker.scalar("loss", 1.0, 1)

    assert doubles.logged() == [("loss", 1.0, 1)] * 2


def test_if_one_cannot_begin_those_before_it_end(tmp_path, doubles):
    doubles.let("init")
    with pytest.raises(SettingsError):
        open_tracker(["visualdl", "wandb"], tmp_path)

    import threading

    assert [thread for thread in threading.enumerate() if getattr(thread, "_target", None) is Tracker._hand_on] == []


def test_none_beside_others_is_refused():
    with pytest.raises(SettingsError, match="^--report_to none contradicts visualdl; leave one of them out$"):
        reporters.wanted(["none", "visualdl"])


@pytest.mark.parametrize("name", reporters.PACKAGES)
def test_a_missing_package_is_named_with_its_command_and_a_folder_is_no_package(tmp_path, monkeypatch, name):
    package, installed_by = reporters.PACKAGES[name]
    (tmp_path / package).mkdir()  # as wandb makes it for its files
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    for module in [one for one in sys.modules if one.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)

    with pytest.raises(SettingsError, match=f"--report_to {name} needs a package: pip install {installed_by} \\(or"):
        reporters.wanted([name])


# ------------------------------------------------------------------------------------------------- the packages


def real(package):
    found = importlib.util.find_spec(package)
    return pytest.mark.skipif(found is None or found.origin is None, reason=f"{package} is not installed")


def logged_twice(name, folder):
    """A run of steps 1 to 3, and its resumption at step 3, which logs that step again."""
    for resumed_at, steps in ((None, (1, 2, 3)), (3, (3, 4))):
        with open_tracker(name, folder / "logs", resumed_at, {"learning_rate": 0.5}) as tracker:
            for step in steps:
                tracker.scalar("train/loss", step / 10, step)
            tracker.image("samples/a <cat>", RED, step)


@real("mlflow")
@pytest.mark.slow
def test_mlflow_itself_has_each_step_once_the_images_and_the_settings(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    logged_twice("mlflow", tmp_path)

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"file:{tmp_path}/logs/mlruns")
    (experiment,) = [one for one in client.search_experiments() if one.name == "textual-inversion"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params == {"learning_rate": "0.5"} and run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, round(point.value, 3)) for point in history] == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]
    images = [path for path in (tmp_path / "logs").rglob("*.png")]
    assert {np.asarray(Image.open(path).convert("RGB"))[0, 0].tolist() == [200, 10, 30] for path in images} == {True}


@real("wandb")
@pytest.mark.slow
def test_wandb_itself_keeps_offline_what_it_would_send(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    logged_twice("wandb", tmp_path)

    first, second = sorted((tmp_path / "logs" / "wandb").glob("offline-run-*/*.wandb"))
    assert first.name == second.name  # one run
    for file in (first, second):
        assert b"train/loss" in file.read_bytes() and b"learning_rate" in file.read_bytes()
    assert len(list((tmp_path / "logs").rglob("*.png"))) == 2


@real("wandb")
@pytest.mark.slow
def test_wandb_itself_without_a_login_is_refused_in_a_line(tmp_path, monkeypatch):
    for variable in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

    with pytest.raises(SettingsError, match="^--report_to wandb: No API key configured.*WANDB_MODE=offline"):
        open_tracker("wandb", tmp_path / "logs")


@real("swanlab")
@pytest.mark.slow
def test_swanlab_itself_keeps_offline_what_it_would_send(tmp_path, monkeypatch):
    monkeypatch.setenv("SWANLAB_MODE", "offline")
    monkeypatch.setenv("HOME", str(tmp_path))
    logged_twice("swanlab", tmp_path)

    runs = sorted((tmp_path / "logs" / "swanlog").glob("run-*/*.swanlab"))
    assert len(runs) == 2 and all(b"train/loss" in run.read_bytes() for run in runs)
    assert len(list((tmp_path / "logs").rglob("*.png"))) == 2


@real("swanlab")
@pytest.mark.slow
def test_swanlab_itself_without_a_login_is_refused_in_a_line(tmp_path, monkeypatch):
    for variable in ("SWANLAB_MODE", "SWANLAB_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))

    with pytest.raises(SettingsError, match="^--report_to swanlab: .*SWANLAB_MODE=offline"):
        open_tracker("swanlab", tmp_path / "logs")


def test_the_patience_with_a_network_is_longer_than_with_a_file():
    assert tracking._PATIENCE < tracking._PATIENCE_OF_A_NETWORK <= 60
