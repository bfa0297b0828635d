"""What decides a run: every flag counts unless it is known to be harmless, and data counts by its contents."""

import numpy as np
import pytest
from PIL import Image
from textual_inversion.cli.train_arguments import build_parser, parse_arguments, settle_steps

from helpers.tiny_models import FAMILIES, build_model
from textual_inversion.data.sampler import TrainingImage
from textual_inversion.models.base_model import load_base_model
from textual_inversion.training import run_settings

REAL = ["--pretrained_model_name_or_path", "some/model"]


def settings(*flags):
    args = parse_arguments([*REAL, *flags])
    settle_steps(args, num_images=4, world_size=1)
    return run_settings.of_arguments(args)


def test_every_flag_is_compared_but_for_those_that_the_module_lists():
    flags = {action.dest for action in build_parser()._actions} - {"help"}

    compared = {name.removeprefix("--") for name in settings()}

    assert compared | run_settings._FREE >= flags
    elsewhere = {"demo", "demo_defaults", "explicit", "concepts", "sample_prompts", "epoch_samples"}
    assert run_settings._FREE - flags - elsewhere == {"peak_learning_rate"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["--train_batch_size", "4", "--gradient_accumulation_steps", "2"], ["--train_batch_size", "8"]),
        (["--train_batch_size", "2", "--learning_rate", "0.01", "--scale_lr"],
         ["--train_batch_size", "2", "--learning_rate", "0.02"]),
        (["--max_train_steps", "100"], ["--max_train_steps", "200"]),
        (["--output_dir", "a", "--save_steps", "3"], ["--output_dir", "b", "--checkpoints_total_limit", "3"]),
    ],
)  # fmt: skip
def test_what_comes_to_the_same_is_no_change(before, after):
    assert run_settings.changes(settings(*before), settings(*after)) == []


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (["--seed", "1"], ["--seed", "2"], ["--seed 1, now 2"]),
        (["--train_batch_size", "4"], ["--train_batch_size", "8"], ["the global batch 4, now 8"]),
        (["--lr_scheduler", "linear"], ["--lr_scheduler", "linear", "--max_train_steps", "600"],
         ["--max_train_steps 5000, now 600"]),
        (["--num_vectors", "2", "--progressive_vectors"],
         ["--num_vectors", "2", "--progressive_vectors", "--max_train_steps", "600"],
         ["--progressive_vectors 2500, now 300"]),
        (["--placeholder_token", "<a>"], ["--placeholder_token", "<b>"], ["--placeholder_token <a>, now <b>"]),
    ],
)  # fmt: skip
def test_what_changes_is_told_with_both_values(before, after, said):
    assert run_settings.changes(settings(*before), settings(*after)) == said


def test_a_setting_that_an_older_version_did_not_record_is_told():
    assert run_settings.changes({}, {"--new": 1}) == ["--new not recorded, now 1"]


def pictures(*values):
    return [Image.new("RGB", (4, 4), (value, 0, 0)) for value in values]


def data(values=(1, 2), sentences=("a <w>", "the <w>"), concept=0, masks=()):
    images = [TrainingImage(concept, (sentence,)) for sentence in sentences]
    return run_settings.of_data(images, pictures(*values), masks)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (dict(values=(1, 3)), ["the training pictures"]),
        (dict(values=(2, 1)), ["the training pictures"]),
        (dict(sentences=("a <w>", "a <w>")), ["the sentences (captions, templates)"]),
        (dict(concept=1), ["the sentences (captions, templates)"]),
        (dict(masks=[Image.new("L", (4, 4))]), ["the masks"]),
        ({}, []),
    ],
)
def test_data_counts_by_its_contents(changed, told):
    assert run_settings.changes(data(), data(**changed)) == told


def of_model(folder, learned=(), sentences=("a photo",)):
    return run_settings.of_model(load_base_model(folder), learned, 16, 16, sentences)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_base_model_counts_by_its_weights_wherever_and_however_they_lie(tmp_path, family):
    ours = of_model(build_model(tmp_path / "a", family))

    assert of_model(build_model(tmp_path / "b", family, "diffusers")) == ours
    changed = run_settings.changes(ours, of_model(build_model(tmp_path / "c", family, seed=1)))
    assert changed == ["the base model"]


def test_of_a_base_model_the_noise_schedule_and_the_tokens_count_too(tmp_path):
    ours = of_model(build_model(tmp_path / "a"))

    for different in (
        of_model(build_model(tmp_path / "b", scheduler=dict(beta_end=0.02))),
        of_model(build_model(tmp_path / "c", scheduler=dict(prediction_type="v_prediction"))),
        of_model(tmp_path / "a", sentences=("a dog",)),
    ):
        assert run_settings.changes(ours, different) == ["the base model"]


def test_an_embedding_to_start_from_counts(tmp_path):
    from textual_inversion.formats.embedding_file import LearnedEmbedding

    folder = build_model(tmp_path / "a")
    ours, other = (
        of_model(folder, [LearnedEmbedding("<w>", {"text_encoder": np.full((1, 32), value, np.float32)}, {})])
        for value in (1.0, 2.0)
    )
    assert run_settings.changes(ours, other) == ["the embeddings to start from"]
