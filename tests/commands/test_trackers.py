"""Training and generation with a tracker of `--report_to`, for whose package a stand-in takes the place."""

import pytest

import train_textual_inversion
from helpers.tracker_doubles import Doubles
from helpers.training_runs import launch, short_run

LOGGED = ["--validation_prompt", "a <cat-toy>", "--validation_steps", "1", "--num_validation_images", "1",
          "--checkpointing_steps", "1", "--only_save_embeds", "--report_to", "wandb", "visualdl"]  # fmt: skip


@pytest.fixture
def doubles(tmp_path, monkeypatch):
    return Doubles(tmp_path, monkeypatch)


@pytest.mark.slow
def test_a_run_shows_curves_images_and_settings_without_secrets_and_goes_on_in_the_same_run(tmp_path, doubles):
    argv = short_run(tmp_path, *LOGGED, "--hub_token", "hf_secret")
    train_textual_inversion.main(argv)

    (begun,) = doubles.told("init")
    assert begun["settings"]["learning_rate"] == 0.01 and begun["settings"]["seed"] == 3
    told = (tmp_path / "told.jsonl").read_text()
    assert "secret" not in told and str(tmp_path) not in told
    assert {tag for tag, _, _ in doubles.logged()} >= {"train/loss", "train/learning_rate", "eval/fixed_set_loss"}
    assert {step for tag, value, step in doubles.logged() if isinstance(value, list) and len(value) == 4} == {0, 1, 2}
    assert [one["failed"] for one in doubles.told("finish")] == [False]

    train_textual_inversion.main([*argv, "--resume_from_checkpoint", "checkpoint-1"])
    assert [one["run"] for one in doubles.told("init")] == [None, "run-1"]


@pytest.mark.slow
@pytest.mark.multiprocess
def test_only_the_first_of_several_processes_tells_a_tracker(tmp_path, doubles):
    launch(short_run(tmp_path, "--only_save_embeds", "--report_to", "wandb"), processes=2, cwd=tmp_path)

    assert len(doubles.told("init")) == len(doubles.told("finish")) == 1
