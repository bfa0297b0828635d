"""The commands on object storage: a service with signed requests, which is stopped, and machines that die."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from helpers.object_stores import KEY, SECRET, Service
from helpers.paths import ROOT
from helpers.tiny_clip import build_clip
from helpers.tiny_models import build_model
from textual_inversion.storage.fetching import WRITER

pytestmark = pytest.mark.slow
STEPS = 12


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = build_model(tmp_path_factory.mktemp("base"), "sd1", "ppdiffusers")
    build_clip(folder / "clip")
    return folder


@pytest.fixture
def service(tmp_path, base):
    """A service that has a base model and images."""
    made = Service(tmp_path / "service")
    shutil.copytree(base, made.files / "bucket" / "model")
    shutil.copytree(ROOT / "cat_toy_images", made.files / "bucket" / "cat")
    yield made
    made.stop()


def training(data, model, output, steps=STEPS):
    return ["train_textual_inversion.py", "--train_data_dir", str(data), "--pretrained_model_name_or_path", str(model),
            "--placeholder_token", "<my-cat>", "--initializer_token", "cat", "--resolution", "32", "--seed", "5",
            "--train_batch_size", "2", "--max_train_steps", str(steps), "--save_steps", "2", "--only_save_embeds",
            "--eval_steps", "0", "--overview", "false", "--output_dir", str(output)]  # fmt: skip


IN_STORE = training("s3://bucket/cat", "s3://bucket/model", "s3://bucket/run")


def start(words, service, machine, **more):
    environment = {**os.environ, **service.environment(machine), **more}
    command = [sys.executable, "-u", str(ROOT / words[0]), *words[1:]]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run(words, service, machine, **more):
    child = start(words, service, machine, **more)
    said, _ = child.communicate(timeout=900)
    return child.returncode, said


def until(is_so, seconds=600.0):
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def learned(folder):
    return (Path(folder) / "learned_embeds.pdparams").read_bytes()  # the other file names the base model


def test_a_run_that_is_killed_goes_on_on_another_machine_with_the_same_bytes(service, tmp_path, base):
    status, said = run(training(ROOT / "cat_toy_images", base, tmp_path / "alone"), service, tmp_path / "none")
    assert status == 0, said
    child = start(training("s3://bucket/cat", "s3://bucket/model", "s3://bucket/run"), service, tmp_path / "first")
    store = service.files / "bucket" / "run"
    until(lambda: any(store.glob("checkpoint-*/SHA256SUMS")) or child.poll() is not None)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    newest = max(store.glob("checkpoint-*/SHA256SUMS"), key=lambda path: int(path.parent.name.partition("-")[2])).parent
    torn = store / "checkpoint-9999"  # as a machine that dies in the middle of an upload leaves it
    shutil.copytree(newest, torn)
    (torn / "SHA256SUMS").unlink()

    status, said = run([*IN_STORE, "--resume_from_checkpoint", "latest"], service, tmp_path / "second")

    assert status == 0, said
    assert f"resuming s3://bucket/run/{newest.name}, after step" in said
    assert "checkpoint-9999: not completely uploaded, so passed over" in said
    assert learned(store) == learned(tmp_path / "alone")
    record = json.loads((store / "run.json").read_text())
    assert record["settings"]["output_dir"] == "s3://bucket/run" and record["base_model"] == "s3://bucket/model"
    assert record["settings"]["train_data_dir"] == "s3://bucket/cat"
    _check_nothing_leaks(store, said, tmp_path)


def _check_nothing_leaks(store, said, tmp_path, *machines):
    """Neither keys nor folders of a machine stand in anything that is written or said."""
    machines = machines or ("first", "second")
    for path in (path for path in store.rglob("*") if path.is_file()):
        content = path.read_bytes()
        for word in (KEY, SECRET, *(str(tmp_path / machine) for machine in machines)):
            assert word.encode() not in content, (path, word)
    assert KEY not in said and SECRET not in said and str(tmp_path / machines[-1]) not in said


def test_a_checkpoint_whose_bytes_changed_is_named_and_the_one_before_is_taken(service, tmp_path):
    status, said = run(training("s3://bucket/cat", "s3://bucket/model", "s3://bucket/run", 6), service, tmp_path / "a")
    assert status == 0, said
    state = service.files / "bucket/run/checkpoint-6/state.safetensors"
    state.write_bytes(state.read_bytes()[:-1] + b"?")
    status, said = run([*IN_STORE, "--resume_from_checkpoint", "latest"], service, tmp_path / "b")
    assert status == 0, said
    assert "s3://bucket/run/checkpoint-6 is damaged" in said and "resuming s3://bucket/run/checkpoint-4" in said


def test_training_goes_on_through_an_outage_and_what_waited_is_uploaded(service, tmp_path):
    child = start(training("s3://bucket/cat", "s3://bucket/model", "s3://bucket/run", 30), service, tmp_path / "a")
    store = service.files / "bucket" / "run"
    until(lambda: any(store.glob("checkpoint-*/SHA256SUMS")) or child.poll() is not None)
    service.stop()
    before = service.names("run")
    mirror = next((tmp_path / "a").glob("*/run"))
    until(lambda: (mirror / "checkpoint-30").is_dir() or child.poll() is not None)  # it does not wait
    assert service.names("run") == before
    service.start()
    said, _ = child.communicate(timeout=900)
    assert child.returncode == 0, said
    assert "cannot be reached; the command goes on" in said and "s3://bucket/run can be reached again" in said
    assert "Traceback" not in said and "checkpoint-30/SHA256SUMS" in service.names("run")


@pytest.mark.parametrize(
    ("flag", "value", "more", "message"),
    [
        ("--output_dir", "s3://missing/run", {}, "--output_dir: s3://missing: there is no such bucket"),
        ("--train_data_dir", "s3://missing/cat", {}, "--train_data_dir: s3://missing: there is no such bucket"),
        ("--train_data_dir", "s3://bucket/dog", {}, "there is nothing at s3://bucket/dog"),
        ("--output_dir", "s3://bucket/run", {"AWS_SECRET_ACCESS_KEY": "wrong"}, "the credentials are refused"),
        ("--pretrained_model_name_or_path", "s3://bucket/x", {}, "there is nothing at s3://bucket/x"),
        ("--output_dir", f"s3://{KEY}:{SECRET}@bucket/run", {}, "holds credentials"),
        ("--output_dir", "s3://bucket/run", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "cannot be reached"),
    ],
)
def test_what_cannot_be_is_one_line_and_status_2_before_anything_starts(service, tmp_path, flag, value, more, message):
    words = training(ROOT / "cat_toy_images", service.files / "bucket/model", tmp_path / "out")
    status, said = run([*words, flag, value], service, tmp_path / "a", **more)
    lines = said.splitlines()
    assert status == 2 and len(lines) == 1 and lines[0].startswith("error: ") and message in lines[0], said
    assert SECRET not in said and not (tmp_path / "out").exists()
    assert not service.names("run")


def test_the_other_commands_read_and_write_there(service, tmp_path):
    status, said = run(training("s3://bucket/cat", "s3://bucket/model", "s3://bucket/run", 4), service, tmp_path / "a")
    assert status == 0, said
    machine = tmp_path / "b"
    drawing = ["infer.py", "--embeds", "s3://bucket/run", "--pretrained_model_name_or_path", "s3://bucket/model",
               "--prompt", "a <my-cat>", "--seed", "1", "2", "--num_inference_steps", "2", "--height", "32",
               "--width", "32", "--output_dir", "s3://bucket/images"]  # fmt: skip
    status, said = run(drawing, service, machine)
    assert status == 0 and any(name.endswith(".png") for name in service.names("images")), said
    assert not list(machine.glob("*/run/checkpoint-*"))  # what nobody asked for stays there
    status, said = run(drawing, service, tmp_path / "c")
    assert status == 0 and "images are there already: s3://bucket/images" in said, said
    converting = ["convert.py", "s3://bucket/run/learned_embeds.pdparams", "--to", "webui-pt", "--output"]
    status, said = run([*converting, "s3://bucket/words/cat.pt"], service, machine)
    assert status == 0 and "cat.pt" in service.names("words"), said
    status, said = run([*converting, "s3://bucket/words/cat.pt"], service, tmp_path / "c")
    assert status == 2 and "s3://bucket/words/cat.pt" in said  # it is there, and is not replaced
    status, said = run(["convert.py", "inspect", "s3://bucket/words/cat.pt"], service, machine)
    assert status == 0 and "s3://bucket/words/cat.pt" in said, said


def test_what_tells_of_runs_reads_and_writes_there(service, tmp_path):
    status, said = run(training("s3://bucket/cat", "s3://bucket/model", "s3://bucket/run", 4), service, tmp_path / "a")
    assert status == 0, said
    machine = tmp_path / "b"
    asked = ["score.py", "--embeds", "s3://bucket/run", "--train_data_dir", "s3://bucket/cat", "--num_images", "2",
             "--pretrained_model_name_or_path", "s3://bucket/model", "--num_inference_steps", "1", "--guidance_scale",
             "1", "--output", "s3://bucket/figures/score.json"]  # fmt: skip
    status, said = run(asked, service, machine)
    assert status == 0 and service.names("figures") == {"score.json", WRITER}, said
    _check_nothing_leaks(service.files / "bucket" / "figures", said, machine, "")
    shutil.copytree(service.files / "bucket" / "run", service.files / "bucket" / "other")
    asked = ["compare.py", "s3://bucket/run", "s3://bucket/other", "--output", "s3://bucket/page/comparison.html"]
    status, said = run(asked, service, machine)
    assert status == 0 and service.names("page") == {"comparison.html", WRITER}, said
    status, said = run(["verify.py", "s3://bucket/run", "--trust_record"], service, machine)
    assert status == 0 and "the same bytes: s3://bucket/run/learned_embeds.pdparams" in said, said
    status, said = run(["verify.py", "s3://bucket/run"], service, machine)
    assert status == 2 and "s3://bucket/" in said and "--trust_record" in said  # a stranger may have written it


@pytest.mark.skipif(not find_spec("ray"), reason="needs ray")
def test_a_list_of_concepts_is_learned_there_and_goes_on_on_another_machine(service, tmp_path):
    photos = service.files / "bucket" / "photos"
    for name in ("a", "b"):
        shutil.copytree(ROOT / "cat_toy_images", photos / name)
    (service.files / "bucket/list.csv").write_text("images,word\nphotos/a,<a>\ns3://bucket/photos/b,<b>\n")
    words = ["teach.py", "--concepts", "s3://bucket/list.csv", "--pretrained_model_name_or_path", "s3://bucket/model",
             "--resolution", "32", "--train_batch_size", "2", "--max_train_steps", "2", "--eval_samples", "2",
             "--alone", "--no_sheet", "--output_dir", "s3://bucket/taught"]  # fmt: skip
    status, said = run(words, service, tmp_path / "a")
    assert status == 0 and "2 of 2 concepts are learned" in said, said
    store = service.files / "bucket" / "taught"
    assert {"teach.json", "embeds/a.pdparams", "embeds/b.safetensors", "runs/a/run.json"} <= service.names("taught")
    settings = json.loads((store / "runs/a/run.json").read_text())["settings"]
    assert settings["output_dir"] == "s3://bucket/taught/runs/a"
    assert settings["train_data_dir"] == "s3://bucket/photos/a"
    _check_nothing_leaks(store, said, tmp_path / "a", "")
    before = (store / "runs/a/run.json").read_bytes()
    (store / "runs/b/taught.json").unlink()  # as if the machine had died before
    (store / "concepts.json").unlink()
    status, said = run(["teach.py", "--resume", "s3://bucket/taught"], service, tmp_path / "b")
    assert status == 0 and "2 of 2 concepts are learned" in said, said
    assert (store / "runs/a/run.json").read_bytes() == before and "runs/b/taught.json" in service.names("taught")
    _check_nothing_leaks(store, said, tmp_path / "b", "")


@pytest.mark.skipif(not (find_spec("ray") and find_spec("optuna")), reason="needs ray and optuna")
def test_a_search_whose_machine_dies_goes_on_on_another_one(service, tmp_path):
    (service.files / "bucket/space.yaml").write_text("learning_rate: [0.001, 0.3]\nadam_weight_decay: [0, 0.5]\n")
    words = training("s3://bucket/cat", "s3://bucket/model", "s3://bucket/sweep", 3)[1:]
    words = [word for word in words if word != "--only_save_embeds"]
    words = ["sweep.py", "--space", "s3://bucket/space.yaml", "--metric", "fixed_set_loss", *words]
    words[words.index("--eval_steps") + 1] = "1"
    child = start(words, service, tmp_path / "a")
    store = service.files / "bucket" / "sweep"
    until(lambda: any(store.glob("trials/*/measured-end.json")) or child.poll() is not None)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    known = {path: path.stat().st_mtime_ns for path in store.glob("trials/*/measured-end.json")}
    status, said = run(["sweep.py", "--resume", "s3://bucket/sweep"], service, tmp_path / "b")
    assert status == 0 and known, said
    assert all(path.stat().st_mtime_ns == when for path, when in known.items())  # nothing is measured twice
    names = service.names("sweep")
    assert {"best/learned_embeds.pdparams", "trials.csv", "report.html", *(
        f"trials/00{number}/measured-end.json" for number in range(4))} <= names  # fmt: skip
    record = json.loads((store / "trials/000/run.json").read_text())
    assert record["settings"]["output_dir"] == "s3://bucket/sweep/trials/000"
    _check_nothing_leaks(store, said, tmp_path / "b", "")


def test_ctrl_c_in_the_last_wait_ends_in_one_line(service, tmp_path):
    child = start(training("s3://bucket/cat", "s3://bucket/model", "s3://bucket/run", 4), service, tmp_path / "a")
    store = service.files / "bucket" / "run"
    until(lambda: any(store.glob("checkpoint-*/SHA256SUMS")) or child.poll() is not None)
    service.stop()
    mirror = next((tmp_path / "a").glob("*/run"))
    until(lambda: (mirror / "learned_embeds.safetensors").exists() or child.poll() is not None)
    time.sleep(5)
    os.kill(child.pid, signal.SIGINT)
    said, _ = child.communicate(timeout=900)
    assert child.returncode in (2, 130) and "are missing at s3://bucket/run" in said and "Traceback" not in said, said
