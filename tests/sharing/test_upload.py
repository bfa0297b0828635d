"""Uploads to a hub on this machine: what goes up, what stays, and what a failure says."""

import json
import os
import shlex
import subprocess
import sys

import pytest

import train_textual_inversion
from helpers.local_hub import TOKEN, LocalHub, use
from helpers.paths import ROOT
from helpers.training_runs import short_run
from textual_inversion.sharing import upload
from textual_inversion.system.errors import OutputError

SMALL = {"README.md", "config.yaml", "learned_embeds.pdparams", "run.json", "samples/step-1.png"}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with LocalHub() as local:
        use(local, monkeypatch, tmp_path / "cache")
        yield local


@pytest.fixture
def folder(tmp_path):
    """What a run leaves behind."""
    folder = tmp_path / "my-cat"
    for name in (*SMALL, "unet/model_state.pdparams", "model_index.json", "logs/x.log", "checkpoint-5/rows", ".hidden"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"---\ntags: []\n---\n" + name.encode())
    (folder / "run.json").write_text(json.dumps({"base_model": "/home/ann/models/mine", "seed": 3}))
    (folder / "config.yaml").write_text(
        "train_data_dir:\n- /home/ann/photos/of my cat\n# clip_model: '/home/ann/clip'\n"
    )
    return folder


def test_the_small_files_go_up(folder, hub):
    address = upload.upload(folder, None, TOKEN)

    assert address == f"{hub.endpoint}/me/my-cat"
    assert set(hub.repositories["me/my-cat"]) == SMALL
    assert hub.repositories["me/my-cat"]["samples/step-1.png"].endswith(b"samples/step-1.png")


def test_folders_of_this_machine_stay_here(folder, hub):
    kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    upload.upload(folder, None, TOKEN)

    up = hub.repositories["me/my-cat"]
    assert json.loads(up["run.json"]) == {"base_model": "mine", "seed": 3}
    assert up["config.yaml"].decode() == "train_data_dir:\n- of my cat\n# clip_model: 'clip'\n"
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == kept


def test_the_pipeline_goes_up_where_it_is_asked_for(folder, hub):
    upload.upload(folder, "friends/cat", TOKEN, whole_pipeline=True)

    assert set(hub.repositories["friends/cat"]) == SMALL | {"unet/model_state.pdparams", "model_index.json"}


@pytest.mark.slow
def test_a_second_upload_adds_to_the_first(folder, hub):
    upload.upload(folder, None, TOKEN)
    (folder / "learned_embeds.pdparams").write_bytes(b"newer")

    upload.upload(folder, None, TOKEN)

    assert hub.repositories["me/my-cat"]["learned_embeds.pdparams"] == b"newer"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "whole"), [("/repos/create", False), ("/preupload/", False), ("/commit/", False), ("/objects/", True)]
)
def test_a_failed_upload_loses_nothing_and_says_how_to_upload_later(folder, hub, where, whole):
    hub.refused = {where: 403}

    with pytest.raises(OutputError) as caught:
        upload.upload(folder, "me/cat", TOKEN, whole_pipeline=whole)

    message = str(caught.value)
    assert "the upload to me/cat failed (the hub answered 403" in message and f"all files are in {folder}" in message
    assert "\n" not in message and (folder / "run.json").exists() and not hub.repositories.get("me/cat")
    hub.refused = {}
    command = shlex.split(message.partition("later with: ")[2])
    environment = dict(os.environ, HF_ENDPOINT=hub.endpoint, HF_TOKEN=TOKEN, HF_HUB_OFFLINE="0")
    cli = [sys.executable, "-m", "huggingface_hub.commands.huggingface_cli"]
    done = subprocess.run([*cli, *command[1:]], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert SMALL <= set(hub.repositories["me/cat"])
    assert ("model_index.json" in hub.repositories["me/cat"]) == whole


def test_no_network_is_one_line(folder, hub, monkeypatch):
    hub.stop()

    with pytest.raises(OutputError, match="the upload to my-cat failed .*later with: huggingface-cli upload my-cat"):
        upload.upload(folder, None, TOKEN)


def test_a_login_is_checked_before_the_work(hub):
    upload.check_login(TOKEN)

    with pytest.raises(OutputError, match="does not accept the token.*check --hub_token"):
        upload.check_login("hf_wrong")


@pytest.mark.slow
def test_a_run_uploads_its_embeddings_its_record_and_a_card(tmp_path, hub, capsys):
    argv = short_run(tmp_path, "--push_to_hub", "--hub_token", TOKEN, "--hub_model_id", "me/cat", "--validation_prompt",
                     "a <cat-toy>", "--num_validation_images", "1", "--overview")  # fmt: skip

    train_textual_inversion.main(argv)

    up = hub.repositories["me/cat"]
    samples = {"samples/step-0.png", "samples/step-2.png", "samples/over-time.png"}
    embeddings = {"learned_embeds.pdparams", "learned_embeds.safetensors"}
    assert set(up) == {"README.md", "run.json", "config.yaml", "overview.png"} | samples | embeddings
    cleaned = {"run.json", "config.yaml", "learned_embeds.safetensors"}
    assert all(up[name] == (tmp_path / "out" / name).read_bytes() for name in set(up) - cleaned)
    assert not any(str(tmp_path).encode() in content or str(ROOT).encode() in content for content in up.values())
    assert json.loads(up["run.json"])["settings"]["train_data_dir"] == "pictures"
    assert not any(TOKEN.encode() in content for content in up.values())
    assert f"uploaded to {hub.endpoint}/me/cat" in capsys.readouterr().out


@pytest.mark.slow
def test_the_command_obeys_hf_endpoint_and_a_refused_upload_leaves_all_files(tmp_path):
    with LocalHub() as hub:
        hub.refused = {"/commit/": 500}
        argv = short_run(tmp_path, "--push_to_hub", "--hub_token", TOKEN, "--only_save_embeds")
        environment = dict(os.environ, HF_ENDPOINT=hub.endpoint, HF_HUB_OFFLINE="0", HF_HOME=str(tmp_path / "hf"))
        command = [sys.executable, str(ROOT / "train_textual_inversion.py"), *argv]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250, cwd=tmp_path)

    assert done.returncode == 2
    assert "error: the upload to out failed (the hub answered 500" in done.stderr.splitlines()[-1]
    assert "draw with it" in done.stdout and "Traceback" not in done.stderr
    for name in ("learned_embeds.pdparams", "learned_embeds.safetensors", "run.json", "config.yaml", "README.md"):
        assert (tmp_path / "out" / name).exists()
