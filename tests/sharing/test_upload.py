"""Uploads to a hub on this machine: what goes up, what stays, and what a failure says."""

import json
import os
import re
import shlex
import subprocess
import sys

import pytest
import yaml

import train_textual_inversion
from helpers import local_aistudio
from helpers.local_hub import TOKEN, LocalHub
from helpers.paths import ROOT
from helpers.training_runs import short_run
from helpers.written_runs import LOCAL_HASH, SMALL, WHOLE, written_run
from textual_inversion.formats.embedding_file import read_embeddings
from textual_inversion.sharing import upload
from textual_inversion.system import atomic
from textual_inversion.system.errors import OutputError


@pytest.fixture
def aistudio(tmp_path, monkeypatch):
    with local_aistudio.LocalAIStudio() as local:
        local_aistudio.use(local, monkeypatch, tmp_path / "home")
        yield local


@pytest.fixture
def run(tmp_path):
    """The list of what a run has left behind."""
    with written_run(tmp_path / "my-cat") as files:
        yield files


def test_the_small_files_go_up(run, hub):
    address = upload.upload(run, None, TOKEN, say=pytest.fail)

    assert address == f"{hub.endpoint}/me/my-cat"
    assert set(hub.repositories["me/my-cat"]) == SMALL
    assert hub.repositories["me/my-cat"]["samples/step-1.png"] == b"an image"
    assert not list(run.folder.glob(".upload*")) and not [n for n in run.names() if n.startswith(".")]


def test_what_goes_up_names_nothing_of_this_machine_and_what_stays_is_not_changed(run, hub):
    kept = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}

    upload.upload(run, None, TOKEN, whole_pipeline=True, say=pytest.fail)

    up = hub.repositories["me/my-cat"]
    for name, content in up.items():
        assert not re.search(rb"ann|bob|sd15|models/|photos", content), name
    assert json.loads(up["run.json"])["base_model"] == LOCAL_HASH
    assert yaml.safe_load(up["config.yaml"]) == {"learning_rate": 0.1}
    (tmp := run.folder.parent / "up.safetensors").write_bytes(up["learned_embeds.safetensors"])
    assert read_embeddings(tmp)[0].metadata == {
        "base_model": LOCAL_HASH, "steps": "3", "format": "pt", "placeholder_token": "<cat>"
    }  # fmt: skip
    left = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    assert left.pop(run.folder / "files.json") and kept.pop(run.folder / "files.json") and left == kept


def test_the_pipeline_goes_up_where_it_is_asked_for(run, hub):
    upload.upload(run, "friends/cat", TOKEN, whole_pipeline=True)

    assert set(hub.repositories["friends/cat"]) == SMALL | WHOLE


def test_what_was_changed_since_is_named_and_left_out(run, hub):
    (run.folder / "README.md").write_text("my own words")
    (run.folder / "samples" / "step-1.png").unlink()
    said = []

    upload.upload(run, None, TOKEN, say=said.append)

    assert set(hub.repositories["me/my-cat"]) == SMALL - {"README.md", "samples/step-1.png"}
    assert said == [
        "note: README.md was changed since it was written, so it is not uploaded",
        "note: samples/step-1.png is gone, so it is not uploaded",
    ]


def test_without_an_embedding_as_it_was_written_nothing_goes_up(run, hub):
    for name in ("learned_embeds.pdparams", "learned_embeds.safetensors"):
        (run.folder / name).write_bytes(b"other")

    with pytest.raises(OutputError, match="nothing is uploaded: learned_embeds.pdparams was changed since"):
        upload.upload(run, None, TOKEN)

    assert not hub.repositories and not list(run.folder.glob(".upload*"))


def test_what_lies_in_the_way_of_the_stage_stays(run, hub):
    (run.folder / ".upload").mkdir()
    (run.folder / ".upload" / "diary.txt").write_text("mine")
    (run.folder / ".upload-2").symlink_to(run.folder)

    upload.upload(run, None, TOKEN)

    assert set(hub.repositories["me/my-cat"]) == SMALL
    assert (run.folder / ".upload" / "diary.txt").read_text() == "mine" and (run.folder / ".upload-2").is_symlink()
    assert not (run.folder / ".upload-3").exists()


@pytest.mark.slow
def test_a_second_upload_adds_to_the_first(run, hub):
    upload.upload(run, None, TOKEN)
    atomic.write_bytes(run.folder / "learned_embeds.pdparams", b"newer")

    upload.upload(run, None, TOKEN)

    assert hub.repositories["me/my-cat"]["learned_embeds.pdparams"] == b"newer"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "whole"), [("/repos/create", False), ("/preupload/", False), ("/commit/", False), ("/objects/", True)]
)
def test_a_failed_upload_loses_nothing_and_says_how_to_upload_later(run, hub, where, whole):
    folder = run.folder
    hub.refused = {where: 403}

    with pytest.raises(OutputError) as caught:
        upload.upload(run, "me/cat", TOKEN, whole_pipeline=whole)

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


def test_no_network_is_one_line(run, hub):
    hub.stop()

    with pytest.raises(OutputError, match="the upload to my-cat failed .*later with: huggingface-cli upload my-cat"):
        upload.upload(run, None, TOKEN)


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
    record = json.loads(up["run.json"])
    assert "train_data_dir" not in record["settings"] and record["base_model"].startswith("local:")
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


# --------------------------------------------------------------------------------------------------------- AI Studio


@pytest.mark.parametrize("whole", [False, True])
def test_the_same_files_go_up_to_ai_studio(run, aistudio, hub, whole):
    address = upload.upload(run, "me/cat", TOKEN, hub="aistudio", whole_pipeline=whole, say=pytest.fail)

    up = aistudio.repositories["me/cat"]
    assert address == f"{aistudio.endpoint}/me/cat" and set(up) == (SMALL | WHOLE if whole else SMALL)
    for name, content in up.items():
        assert not re.search(rb"ann|bob|sd15|models/|photos", content), name
    assert not list(run.folder.glob(".upload*")) and hub.requests == []
    assert not any(token == TOKEN for _, token in aistudio.tokens)  # that of Hugging Face


def test_what_was_changed_since_does_not_go_up_to_ai_studio(run, aistudio):
    (run.folder / "README.md").write_text("my own words")
    said = []

    upload.upload(run, "me/cat", None, hub="aistudio", say=said.append)

    assert set(aistudio.repositories["me/cat"]) == SMALL - {"README.md"} and len(said) == 1


@pytest.mark.slow
@pytest.mark.parametrize("where", ["/sdk/add", "/git/trees/", "/preupload/", "/objects/", "/contents/"])
@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_failed_upload_to_ai_studio_says_how_to_upload_later(run, aistudio, where, status):
    aistudio.refused = {where: status}

    with pytest.raises(OutputError) as caught:
        upload.upload(run, "me/cat", None, hub="aistudio")

    message = str(caught.value)
    assert "the upload to me/cat failed (AI Studio" in message and str(status) in message and "\n" not in message
    assert "nothing is lost" in message and local_aistudio.TOKEN not in message and (run.folder / "run.json").exists()
    aistudio.refused = {}
    _, *command = shlex.split(message.partition("later with: ")[2])
    done = subprocess.run([sys.executable, *command], env=os.environ, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == f"uploaded to {aistudio.endpoint}/me/cat\n", done.stderr
    assert set(aistudio.repositories["me/cat"]) == SMALL


def test_a_login_at_ai_studio_is_checked_before_the_work(aistudio, monkeypatch):
    upload.check_login(None, "aistudio")

    for token, phrase in (
        ("wrong", "does not accept the access token"),
        ("", "there is no access token and no earlier"),
    ):
        monkeypatch.setenv("AISTUDIO_ACCESS_TOKEN", token)
        with pytest.raises(OutputError, match=rf"--push_to aistudio: cannot log in \(.*{phrase}.*leave --push_to out"):
            upload.check_login(TOKEN, "aistudio")
    aistudio.stop()
    monkeypatch.setenv("AISTUDIO_ACCESS_TOKEN", local_aistudio.TOKEN)
    with pytest.raises(OutputError, match=r"cannot log in \(AI Studio cannot be reached\)"):
        upload.check_login(None, "aistudio")


@pytest.mark.slow
def test_a_run_goes_up_to_ai_studio_and_can_be_drawn_from_there(tmp_path, aistudio):
    """Each command as a process of its own, with a token that must stand nowhere afterwards."""
    environment = os.environ | aistudio.environment()

    def run(script, *argv):
        command = [sys.executable, str(ROOT / script), *argv]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    said = run("train_textual_inversion.py", *short_run(tmp_path, "--push_to", "aistudio", "--hub_model_id", "me/cat"))
    assert f"uploaded to {aistudio.endpoint}/me/cat" in said
    up = aistudio.repositories["me/cat"]
    assert {"learned_embeds.safetensors", "README.md", "run.json", "config.yaml"} <= set(up)

    said += run("infer.py", "--embeds", "aistudio:me/cat", "--pretrained_model_name_or_path", str(tmp_path / "base"),
                "--prompt", "a <cat-toy>", "--num_images", "1", "--num_inference_steps", "1")  # fmt: skip
    (drawn,) = json.loads((tmp_path / "outputs/manifest.json").read_text())["runs"]
    assert drawn["embeds"][0]["words"] == ["<cat-toy>"]
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert local_aistudio.TOKEN not in said and local_aistudio.TOKEN.encode() not in written
