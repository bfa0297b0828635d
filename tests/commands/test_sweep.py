"""sweep.py, teach.py and infer.py --address with real trainings on real Ray: the slow ones, few and small."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import numpy as np
import pytest

from helpers.paths import ROOT
from helpers.ray_machines import Machines
from helpers.tiny_models import build_model
from helpers.training_runs import draw_images, vectors_in
from textual_inversion.formats.embedding_file import LearnedEmbedding, write_pdparams

pytestmark = [
    pytest.mark.slow,
    pytest.mark.multiprocess,
    pytest.mark.skipif(not (find_spec("ray") and find_spec("optuna")), reason="needs ray and optuna"),
]
SHORT = ["--train_batch_size", "2", "--eval_samples", "2", "--lr_warmup_steps", "0", "--report_to", "none",
         "--num_inference_steps", "1"]  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    build_model(folder / "base")
    for name in ("a", "b"):
        draw_images(folder / "photos" / name, 2)
    return folder


def command(script, world, *more):
    model = [] if "--resume" in more else ["--pretrained_model_name_or_path", str(world / "base"), *SHORT]
    return [sys.executable, str(ROOT / script), *model, *more]


def run(words, world):
    done = subprocess.run(words, capture_output=True, text=True, timeout=400, cwd=world, env=os.environ)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_search_that_is_killed_goes_on_and_its_winner_is_the_one_of_a_training_that_was_never_stopped(world):
    (world / "s.yaml").write_text("learning_rate: [0.001, 0.3]\nadam_weight_decay: [0, 0.5]\n")
    words = command("sweep.py", world, "--space", "s.yaml", "--metric", "fixed_set_loss", "--asha", "--min_steps", "2",
                    "--reduction_factor", "2", "--max_train_steps", "6", "--train_data_dir", "photos/a",
                    "--placeholder_token", "<x>", "--output_dir", "out")  # fmt: skip
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=world)
    for line in process.stdout:
        if "trial" in line and "known" in line:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    known = {path: path.stat().st_mtime_ns for path in (world / "out").rglob("measured-*.json")}

    said = run(command("sweep.py", world, "--resume", "out"), world)

    assert known and all(path.stat().st_mtime_ns == when for path, when in known.items()), "nothing is measured twice"
    best = int(re.search(r"the best is trial (\d+)", said)[1])
    rows = list(csv.DictReader((world / "out" / "trials.csv").open()))
    assert len(rows) == 4 and rows[0]["trial"] == str(best) and rows[0]["steps"] == "6"
    assert {row["status"] for row in rows} >= {"done", "stopped after 2 steps"}
    again = said.splitlines()[-1].split()
    run([sys.executable, str(ROOT / again[1]), *again[2:], "--output_dir", "again"], world)
    assert (vectors_in(world / "again/learned_embeds.pdparams") == vectors_in(
        world / "out/best/learned_embeds.pdparams")).all()  # fmt: skip
    assert (world / "out/report.html").is_file() and (world / "out/sweep.png").is_file()
    record = (world / "out/trials" / f"{best:03d}" / "run.json").read_text()
    assert json.loads(record)["settings"]["max_train_steps"] == 6 and "RAY" not in record


def test_concepts_learned_together_and_alone_are_the_bytes_of_the_training_command(world):
    words = ["--concepts", "photos", "--max_train_steps", "2"]
    run(command("teach.py", world, *words, "--output_dir", "both"), world)
    run(command("teach.py", world, *words, "--alone", "--no_sheet", "--output_dir", "alone"), world)
    lean = ["--only_save_embeds", "--overview=false", "--seed=42", "--max_train_steps", "2"]
    own = ["--placeholder_token", "<a>", "--train_data_dir", "photos/a", "--output_dir", "own", "--num_threads", "1"]
    run(command("train_textual_inversion.py", world, *lean, *own), world)

    alone = vectors_in(world / "alone/embeds/a.pdparams")
    assert (alone == vectors_in(world / "own/learned_embeds.pdparams")).all()
    record = json.loads((world / "both/runs/a-and-1-more/run.json").read_text())
    assert record["settings"]["global_batch"] == 4, "each of two concepts gets the samples of one"
    assert (world / "both/sheet.png").is_file() and (world / "both/embeds/b.safetensors").is_file()
    begun = time.monotonic()
    assert "2 of 2 concepts are learned" in run(command("teach.py", world, "--resume", "both"), world)
    assert time.monotonic() - begun < 60


def test_a_grid_on_a_cluster_has_the_images_of_one_process(world, request):
    (world / "learned").mkdir()
    rows = np.random.default_rng(1).standard_normal((1, 32)).astype(np.float32)
    write_pdparams(world / "learned/a.pdparams", [LearnedEmbedding("<a>", {"text_encoder": rows})])
    record = {"base_model": str(world / "base"), "placeholder_token": "<a>"}
    (world / "learned/run.json").write_text(json.dumps(record))
    machines = Machines()
    request.addfinalizer(machines.close)
    words = [sys.executable, str(ROOT / "infer.py"), "--embeds", "learned/a.pdparams", "--prompt", "a <a>",
             "--seed", "1", "5", "--num_images", "2", "--num_inference_steps", "1"]  # fmt: skip
    run([*words, "--output_dir", "one"], world)

    more = ["--output_dir", "spread", "--address", machines.address]
    done = subprocess.run(
        [*words, *more], capture_output=True, text=True, cwd=world, env=machines.environment, timeout=400
    )

    assert done.returncode == 0, done.stdout + done.stderr
    images = [{path.name: path.read_bytes() for path in (world / folder).glob("*-seed*.png")} for folder in
              ("one", "spread")]  # fmt: skip
    assert images[0] == images[1] and len(images[0]) == 4
    assert "2 processes draw in" in done.stdout and "contact_sheet" in done.stdout
    assert (world / "spread/contact_sheet.png").is_file()
