"""Runs that end when the loss has settled: after which step, with which vectors, resumed, and on several processes."""

import json
import shutil

import numpy as np
import pytest

import train_textual_inversion
from helpers.training_runs import launch, short_run, vectors_in
from textual_inversion.system.errors import SettingsError

SETTLED = [
    *("--stop_when_settled", "--patience", "2", "--eval_steps", "1", "--eval_samples", "4"),
    *("--checkpointing_steps", "1", "--save_steps", "1", "--only_save_embeds"),
]
# At this rate the tiny model's vectors learn nothing that shows; at the other they learn for many steps.
IDLE, LEARNING = ["--learning_rate", "1e-9"], ["--learning_rate", "0.01"]
FINAL, BEST = "learned_embeds.pdparams", "learned_embeds-best.pdparams"


def figures(folder):
    return json.loads((folder / "run.json").read_text())["figures"]


def steps_of(folder):
    return sorted(int(path.name.rpartition("-")[2]) for path in folder.glob("checkpoint-*"))


def test_a_run_that_learns_nothing_more_ends_after_two_windows_with_its_best_vectors(tmp_path, capsys):
    argv = short_run(tmp_path, *SETTLED, *IDLE, "--max_train_steps", "40")

    train_textual_inversion.main(argv)

    said, out = capsys.readouterr(), tmp_path / "out"
    best = figures(out)["best"]["step"]
    assert steps_of(out) == [1, 2, 3, 4] and set(figures(out)["fixed_set_loss"]) == set("01234")
    assert "step 4: the loss on the fixed set has stopped falling; the run ends here" in said.out + said.err
    assert f"ended after step 4 of 40; the vectors are those of the best step, {best}" in said.out
    losses = figures(out)["fixed_set_loss"]
    assert best == min(range(1, 5), key=lambda step: losses[str(step)]) and figures(out)["result_step"] == best
    wanted = vectors_in(out / f"learned_embeds-steps-{best}.pdparams")
    assert np.array_equal(vectors_in(out / FINAL), wanted) and np.array_equal(vectors_in(out / BEST), wanted)


def test_without_the_flag_or_while_the_loss_falls_a_run_goes_on_to_its_end(tmp_path):
    more = ["--output_dir", str(tmp_path / "falls"), "--max_train_steps", "6", *LEARNING, "--optimizer", "sgd"]
    plain = SETTLED[3:]
    train_textual_inversion.main(short_run(tmp_path, *plain, *IDLE, "--max_train_steps", "6"))
    train_textual_inversion.main(short_run(tmp_path, *SETTLED, *more, "--learning_rate", "30"))

    assert steps_of(tmp_path / "out")[-1] == 6
    losses = list(figures(tmp_path / "falls")["fixed_set_loss"].values())
    assert losses == sorted(losses, reverse=True) and steps_of(tmp_path / "falls")[-1] == 6
    assert figures(tmp_path / "falls")["result_step"] == 6


@pytest.mark.slow
@pytest.mark.parametrize("cut_at", [1, 3, 4])
def test_a_settled_run_that_was_killed_on_the_way_ends_the_same(tmp_path, cut_at):
    argv = short_run(tmp_path, *SETTLED, *IDLE, "--max_train_steps", "9", "--validation_prompt", "a <cat-toy>",
                     "--validation_steps", "50", "--num_validation_images", "1")  # fmt: skip
    out = tmp_path / "out"
    train_textual_inversion.main(argv)
    whole = {name: (out / name).read_bytes() for name in (FINAL, BEST, "samples/step-4.png", "figures.jsonl")}
    known = {name: figures(out)[name] for name in ("fixed_set_loss", "fixed_set_samples", "image_losses", "best")}
    for step in range(cut_at + 1, 5):
        shutil.rmtree(out / f"checkpoint-{step}")
    (out / FINAL).unlink()

    train_textual_inversion.main([*argv, "--resume_from_checkpoint", "latest"])

    assert {name: (out / name).read_bytes() for name in whole} == whole
    assert {name: figures(out)[name] for name in known} == known and steps_of(out) == [1, 2, 3, 4]


def test_another_interval_of_looks_is_another_run(tmp_path):
    argv = short_run(tmp_path, *SETTLED, *IDLE, "--max_train_steps", "3")
    train_textual_inversion.main(argv)

    with pytest.raises(SettingsError, match="--eval_steps 1, now 2"):
        train_textual_inversion.main([*argv, "--resume_from_checkpoint", "latest", "--eval_steps", "2"])


@pytest.mark.slow
@pytest.mark.multiprocess
def test_two_processes_end_after_the_same_step_with_the_same_best_vectors(tmp_path):
    argv = short_run(tmp_path, *SETTLED, *IDLE, "--max_train_steps", "30", "--train_batch_size", "1")

    launch(argv, processes=2, cwd=tmp_path)

    out = tmp_path / "out"
    best = figures(out)["result_step"]
    assert steps_of(out) == [1, 2, 3, 4]
    assert np.array_equal(vectors_in(out / FINAL), vectors_in(out / f"learned_embeds-steps-{best}.pdparams"))
