"""How runs stand, by what lies in their folders and by what their processes say."""

import json
import sys
import time
from dataclasses import replace

import pytest

from textual_inversion.studio import children, comparing, runs
from textual_inversion.studio.workspace import Workspace


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "other").mkdir()
    return Workspace.at(tmp_path / "ws", [tmp_path / "other"])


def record(folder, *, ended=True, **settings):
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"seconds": {"training": 1.0}} if ended else {}
    content = {"placeholder_token": "<a>", "settings": {"max_train_steps": 50, **settings}, "figures": figures}
    (folder / "run.json").write_text(json.dumps(content))
    return folder


def job(workspace, folder, program, *, wait=True):
    children.start(workspace, folder, [sys.executable, "-u", "-c", program])
    end = time.monotonic() + 20
    while wait and children.job_of(workspace, folder).is_alive:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_runs_are_found_below_the_chosen_folders_and_not_behind_links(workspace, tmp_path):
    one = record(workspace.part("runs") / "one")
    two = record(tmp_path / "other/deeper/two")
    record(tmp_path / "secret/three")
    (tmp_path / "other/link").symlink_to(tmp_path / "secret")
    begun = workspace.part("runs") / "begun"  # nothing is in it yet
    begun.mkdir()

    assert set(runs.find(workspace)) == {one, two, begun}


def test_a_run_of_others_is_finished_or_not(workspace, tmp_path):
    done = runs.look_at(workspace, record(tmp_path / "other/done"))
    begun = runs.look_at(workspace, record(tmp_path / "other/begun", ended=False))

    assert (done.state, done.step, done.steps, done.words) == (runs.FINISHED, 50, 50, ["<a>"])
    assert begun.state == runs.UNKNOWN and begun.job is None


def test_a_process_is_starting_until_it_logs_and_then_it_trains(workspace):
    folder = record(workspace.part("runs") / "a", ended=False)
    job(workspace, folder, "import time; time.sleep(60)", wait=False)
    assert runs.look_at(workspace, folder).state == runs.STARTING
    (folder / "figures.jsonl").write_text('{"step": 10, "train/loss": 0.5}\n')
    run = runs.look_at(workspace, folder)
    assert (run.state, run.step, run.is_alive) == (runs.RUNNING, 10, True)
    children.stop(workspace, folder)
    end = time.monotonic() + 20
    while (run := runs.look_at(workspace, folder)).is_alive:
        assert run.state in (runs.RUNNING, runs.STOPPING) and time.monotonic() < end
    assert run.state == runs.STOPPED


ENDS = [
    ("print('error: no images; give some'); raise SystemExit(2)", runs.FAILED, "error: no images; give some"),
    ("print('stopped by SIGTERM after step 3 of 9; checkpoint-3 is saved'); raise SystemExit(143)", runs.STOPPED,
     "stopped by SIGTERM after step 3 of 9; checkpoint-3 is saved"),
    ("print('loading'); import os; os.kill(os.getpid(), 9)", runs.FAILED, "loading"),
    ("print('all is written')", runs.FINISHED, "all is written"),
    ("1 / 0", runs.FAILED, "ZeroDivisionError: division by zero"),
]  # fmt: skip


@pytest.mark.parametrize(("program", "state", "said"), ENDS)
def test_how_a_process_ended_is_told_with_its_last_line(workspace, program, state, said):
    folder = workspace.part("runs") / "a"
    folder.mkdir()
    job(workspace, folder, program)
    run = runs.look_at(workspace, folder)

    assert (run.state, run.said) == (state, said)


def test_a_page_that_was_not_there_when_it_ended_goes_by_what_it_left(workspace):
    folder = record(workspace.part("runs") / "a", ended=False)
    job(workspace, folder, "print('step 5/50  loss 1')")
    found = children.job_of(workspace, folder)
    children._write(workspace.job_folder(folder), replace(found, status=None))
    children._own.clear()

    assert runs.look_at(workspace, folder).state == runs.FAILED
    record(folder, ended=True)
    assert runs.look_at(workspace, folder).state == runs.FINISHED


def test_a_damaged_record_is_told_and_no_traceback(workspace):
    folder = record(workspace.part("runs") / "a")
    (folder / "run.json").write_text("{")
    run = runs.look_at(workspace, folder)

    assert run.said.startswith("error: the record") and run.settings == {} and run.words == []


def test_the_time_that_is_left_is_what_the_run_prints(workspace):
    folder = record(workspace.part("runs") / "a", ended=False)
    (folder / "figures.jsonl").write_text('{"step": 10, "train/loss": 0.5}\n')
    program = "import time; print('step 10/50  loss 0.5  lr 1e-2  0:05 elapsed, 1:20 remaining'); time.sleep(60)"
    job(workspace, folder, program, wait=False)
    end = time.monotonic() + 20
    while not (run := runs.look_at(workspace, folder)).left and time.monotonic() < end:
        time.sleep(0.05)
    assert (run.state, run.left) == (runs.RUNNING, "1:20")
    children.stop(workspace, folder)
    while (run := runs.look_at(workspace, folder)).is_alive:
        assert time.monotonic() < end
    assert run.left == ""


def test_images_checkpoints_and_embeddings_are_listed_by_their_steps(workspace):
    folder = record(workspace.part("runs") / "a")
    names = [f"samples/{one}.png" for one in ("step-10", "step-9", "over-time", "step-x")]
    names += [f"learned_embeds{one}.pdparams" for one in ("", "-steps-9", "-steps-10")]
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    (folder / "samples/step-11.png").symlink_to("/etc/passwd")
    (folder / "checkpoint-10").mkdir()
    run = runs.look_at(workspace, folder)

    assert [step for step, _ in run.samples] == [9, 10] and [step for step, _ in run.checkpoints] == [10]
    assert set(run.embeddings) == {"final", "9", "10"}


def test_settings_that_differ_are_compared_in_a_table(workspace):
    one = runs.look_at(workspace, record(workspace.part("runs") / "one", learning_rate=0.1, seed=3))
    two = runs.look_at(workspace, record(workspace.part("runs") / "two", learning_rate=0.2, seed=3, output_dir="x"))

    assert comparing.differences([one, two]) == {"learning_rate": ["0.1", "0.2"]}
    assert "learning_rate" in comparing.unusual(one) and "max_train_steps" in comparing.unusual(one)
    assert comparing.table(["a", "b"], [["中文", "x" * 90]])[1] == "中文  " + "x" * 59 + "…"
