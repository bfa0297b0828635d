"""Images are drawn by two real processes as by one, and a signal while they are drawn leaves a checkpoint."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from helpers.paths import ROOT
from helpers.training_runs import short_run
from textual_inversion.training import checkpoints

pytestmark = [pytest.mark.slow, pytest.mark.multiprocess]

# A program for the launcher: the training command, with a line in its log whenever images are drawn.
TOLD = """
import os, sys
sys.path.insert(0, {root!r})
import train_textual_inversion
from textual_inversion.system.errors import run_command

prepare = train_textual_inversion.prepare_environment

def prepared(*settings, **named):
    said = prepare(*settings, **named)
    from textual_inversion.training import validation
    generate = validation.generate

    def told(model, requests, **how):
        print(f"{{os.getpid()}} draws {{len(requests)}}", flush=True)
        return generate(model, requests, **how)

    validation.generate = told
    return said

train_textual_inversion.prepare_environment = prepared
run_command(train_textual_inversion.main)
"""


def started(tmp_path, argv, processes=2):
    """The training command on so many processes; its logs are in `log/`."""
    script = tmp_path / "told.py"
    script.write_text(TOLD.format(root=str(ROOT)))
    launcher = ["-m", "paddle.distributed.launch", "--nproc_per_node", str(processes), "--log_dir", tmp_path / "log"]
    command = [sys.executable, "-u", *(launcher if processes > 1 else []), script, *argv]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path)


def shares_drawn(text: str) -> list[int]:
    return [int(count) for count in re.findall(r"^\d+ draws (\d+)$", text, re.MULTILINE)]


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_two_processes_draw_and_score_what_one_does(tmp_path):
    """The demo, with one validation prompt, which leaves the second process nothing to draw on the way."""
    common = ["--max_train_steps", "2", "--validation_prompt", "a <cat-toy>", "--validation_steps", "1", "--keep_best",
              "--num_validation_images", "1", "--num_inference_steps", "2", "--only_save_embeds", "--eval_steps", "0",
              "--num_threads", "1", "--report_to", "none"]  # fmt: skip
    one = started(tmp_path, [*common, "--train_batch_size", "4", "--output_dir", str(tmp_path / "one")], 1)
    said = one.communicate(timeout=280)[0]
    assert one.returncode == 0, said
    two = started(tmp_path, [*common, "--train_batch_size", "2", "--output_dir", str(tmp_path / "two")])
    output = two.communicate(timeout=280)[0]
    logs = [path.read_text() for path in sorted((tmp_path / "log").glob("workerlog.*"))]
    assert two.returncode == 0, "\n".join([output, *logs])

    (*on_the_way, at_the_end), first, second = shares_drawn(said), shares_drawn(logs[0]), shares_drawn(logs[1])
    assert on_the_way == [1, 1, 1] and first[:-1] == [1, 1, 1]
    assert second == [at_the_end // 2] and first[-1] == at_the_end - second[0]
    found = {path.relative_to(tmp_path / "two") for path in (tmp_path / "two").rglob("*") if path.is_file()}
    assert found == {path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()}
    for name in ("overview.png", "samples/step-0.png", "samples/step-2.png", "samples/over-time.png"):
        assert np.abs(pixels(tmp_path / "one" / name) - pixels(tmp_path / "two" / name)).max() <= 2, name
    alone, shared = (json.loads((tmp_path / n / "run.json").read_text())["figures"] for n in ("one", "two"))
    for kind in ("baseline", "concept"):
        for name in ("image_similarity", "text_similarity"):
            scores = [figures["scores"]["<cat-toy>"][kind][name] for figures in (alone, shared)]
            assert scores[0] == pytest.approx(scores[1], abs=2e-3)
    assert alone["best"]["scores"] == pytest.approx(shared["best"]["scores"], abs=2e-3)


@pytest.mark.parametrize("told", ["launcher", "second"])
def test_two_processes_that_are_told_to_end_while_one_draws_leave_a_checkpoint(tmp_path, told):
    """The second process has no share and waits for the first; no checkpoint was due."""
    argv = short_run(tmp_path, "--only_save_embeds", "--max_train_steps", "5000", "--eval_steps", "0", "--save_steps",
                     "5000", "--validation_prompt", "a <cat-toy>", "--validation_steps", "2", "--num_threads", "1",
                     "--num_validation_images", "1", "--num_inference_steps", "300")  # fmt: skip
    process = started(tmp_path, argv)
    log = tmp_path / "log" / "workerlog.0"
    while not log.is_file() or len(shares_drawn(log.read_text())) < 2:  # those of step 0, then those of step 2
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)
    os.kill(process.pid if told == "launcher" else child_of(process.pid, "1"), signal.SIGTERM)
    process.communicate(timeout=200)

    assert process.returncode != 0
    (folder,) = checkpoints.folders(tmp_path / "out")
    assert checkpoints.read(folder).step == 2
    assert "after step 2 of 5000; checkpoint-2 is saved, resume with" in log.read_text()
    assert not (tmp_path / "out" / "samples" / "step-2.png").exists()
    assert "Traceback" not in log.read_text() + (tmp_path / "log" / "workerlog.1").read_text()


def child_of(launcher: int, rank: str) -> int:
    """The process of a rank."""
    for pid in subprocess.run(["pgrep", "-P", str(launcher)], capture_output=True, text=True).stdout.split():
        with open(f"/proc/{pid}/environ") as file:
            if f"PADDLE_TRAINER_ID={rank}" in file.read().split("\0"):
                return int(pid)
    raise AssertionError("the launcher has no such child")
