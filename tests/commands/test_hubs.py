"""The commands as processes of their own against hubs on this machine: a mirror, which HF_ENDPOINT names, and lists."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from helpers.local_aistudio import LocalAIStudio
from helpers.local_hub import TOKEN, LocalHub
from helpers.paths import ROOT
from helpers.tiny_clip import build_clip
from helpers.tiny_models import build_model, tree
from helpers.torch_samples import TORCH_FILES
from helpers.training_runs import short_run

SLUG = "me/toys-64f9a55bb3115b4f513ec026"


@pytest.fixture
def hub():
    with LocalHub() as local:
        yield local


def as_repository(folder):
    return {name: (folder / name).read_bytes() for name in tree(folder)}


def run(hub, cwd, script, *argv, **more):
    """What a command says that asks no hub but this one; its status is 0."""
    done = result(hub, cwd, script, *argv, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def result(hub, cwd, script, *argv, **more):
    where = {"HF_ENDPOINT": hub.endpoint, "PPNLP_ENDPOINT": f"{hub.endpoint}/store", "HF_HUB_OFFLINE": "0",
             "HF_HOME": str(cwd / "hf"), "PPNLP_HOME": str(cwd / "nlp"), "HOME": str(cwd / "home")}  # fmt: skip
    environment = os.environ | where | more
    (cwd / "home").mkdir(exist_ok=True)
    command = [sys.executable, str(ROOT / script), *argv]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250, cwd=cwd)


@pytest.mark.slow
@pytest.mark.parametrize("redirects", [False, True])
def test_a_mirror_hands_out_models_and_embeddings_and_takes_uploads(tmp_path, hub, redirects):
    """Also one that leads on to where the files are, as mirrors do; then the cache is enough."""
    hub.redirects = redirects
    base = build_model(tmp_path / "there", layout="diffusers")
    hub.repositories["me/model"] = as_repository(base)
    hub.repositories["me/clip"] = as_repository(build_clip(tmp_path / "clip"))
    argv = short_run(tmp_path, "--only_save_embeds", "--pretrained_model_name_or_path", "me/model", "--push_to",
                     "huggingface", "--hub_token", TOKEN, "--hub_model_id", "me/word", "--keep_best", "--clip_model",
                     "me/clip", "--validation_prompt", "a <cat-toy>", "--num_validation_images", "1")  # fmt: skip

    said = run(hub, tmp_path, "train_textual_inversion.py", *argv)

    assert f"uploaded to {hub.endpoint}/me/word" in said and "learned_embeds.safetensors" in hub.repositories["me/word"]
    draw = ["--embeds", "me/word", "--prompt", "a <cat-toy>", "--num_images", "1", "--num_inference_steps", "1",
            "--pretrained_model_name_or_path", "me/model"]  # fmt: skip
    run(hub, tmp_path, "infer.py", *draw)
    (drawn,) = json.loads((tmp_path / "outputs/manifest.json").read_text())["runs"]
    assert drawn["embeds"][0]["words"] == ["<cat-toy>"] and drawn["base_model"] == "me/model"
    asked = len(hub.requests)
    run(hub, tmp_path, "infer.py", *draw)
    assert len(hub.requests) == asked


@pytest.mark.slow
def test_a_record_of_ai_studio_makes_nobody_be_asked(tmp_path, hub):
    """The embedding comes from AI Studio, as the user says; the base model in its metadata is a stranger's word."""
    from textual_inversion.formats.safetensors_file import safetensors_bytes

    def word(base_model):
        metadata = {"base_model": base_model, "placeholder_token": "<cat>"}
        return safetensors_bytes({"<cat>": np.ones((1, 32), np.float32)}, metadata)

    with LocalAIStudio() as aistudio:
        model = as_repository(build_model(tmp_path / "there"))
        aistudio.repositories = {
            "me/cat": {"learned_embeds.safetensors": word("aistudio:evil/model")},
            "evil/model": model,
        }
        argv = ["--embeds", "aistudio:me/cat", "--prompt", "a <cat>", "--num_images", "1", "--num_inference_steps", "1"]

        done = result(hub, tmp_path, "infer.py", *argv, **aistudio.environment())
        assert done.returncode == 2 and "no hub is asked for what a record names" in done.stderr.splitlines()[-1]
        assert not [line for line in aistudio.requests if "evil" in line] and hub.requests == []

        run(hub, tmp_path, "infer.py", *argv, "--trust_record", **aistudio.environment())
        assert [line for line in aistudio.requests if "evil/model" in line] and hub.requests == []


@pytest.mark.slow
def test_what_a_hub_has_is_listed_and_one_of_it_is_described(tmp_path, hub):
    hub.repositories = {f"me/{name}": {"learned_embeds.bin": TORCH_FILES["diffusers_bin"]} for name in ("cat", "dog")}
    hub.repositories["me/model"] = {"model_index.json": b"{}"}
    hub.collections[SLUG] = [("me/dog", "model")]
    both = "me/cat: learned_embeds.bin\nme/dog: learned_embeds.bin\n"

    assert run(hub, tmp_path, "convert.py", "inspect", "--hub", "me") == f"{both}1 other repository holds none\n"
    assert run(hub, tmp_path, "convert.py", "inspect", "--hub", SLUG) == "me/dog: learned_embeds.bin\n"
    assert not [line for line in hub.requests if "/resolve/" in line]
    (listed,) = json.loads(run(hub, tmp_path, "convert.py", "inspect", "--hub", "me", "--json"))
    assert listed["repositories"]["me/cat"] == ["learned_embeds.bin"]
    assert "<cat>" in run(hub, tmp_path, "convert.py", "inspect", "me/cat")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (
            [],
            "the following arguments are required: FILE; see python convert.py inspect --help, or list what a hub has",
        ),
        (["--hub", "a b"], "'a b' is nothing that a hub can list; give a repository"),
        (["--hub", "nobody"], "nobody on the hub has no learned embedding; choose another name"),
        (["--hub", "me/gone"], "me/gone cannot be listed: the hub has no public repository of this name"),
        (["--hub", SLUG], "cannot be listed: the hub answered 404"),
        (["--hub", "aistudio:me"], "'aistudio:me' is nothing that a hub can list"),
    ],
)
def test_what_a_hub_cannot_list_is_one_line(tmp_path, hub, argv, words):
    done = result(hub, tmp_path, "convert.py", "inspect", *argv)

    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and words in done.stderr and len(done.stderr.splitlines()) == 1
