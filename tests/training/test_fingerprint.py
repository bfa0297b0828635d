"""What decides a run: flags by their declaration, data by its contents."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.configs import planned
from helpers.tiny_models import FAMILIES, build_model
from textual_inversion.data.image_files import ImageFile
from textual_inversion.data.images import content_digest
from textual_inversion.data.masks import MaskFile
from textual_inversion.data.read_images import ReadImages
from textual_inversion.data.sampler import TrainingImage
from textual_inversion.formats.learned_embedding import LearnedEmbedding
from textual_inversion.models.base_model import load_base_model
from textual_inversion.settings.flag import all_flags
from textual_inversion.settings.train import TrainConfig
from textual_inversion.training import fingerprint
from textual_inversion.training.fingerprint import changes

REAL = ["--pretrained_model_name_or_path", "some/model"]


def settings(*flags):
    made = planned([*REAL, *flags])
    return fingerprint.of_settings(made.whole, made.plan)


def test_every_flag_is_compared_that_is_declared_to_decide_the_course():
    declared = {f"--{name}" for name, flag in all_flags(TrainConfig).items() if flag.decides_result}

    assert settings().keys() == declared | {"the global batch"}


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
    assert changes(settings(*before), settings(*after)) == []


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
    assert changes(settings(*before), settings(*after)) == said


def test_a_setting_that_an_older_version_did_not_record_is_told():
    assert changes({}, {"--new": 1}) == ["--new not recorded, now 1"]


def test_what_an_older_version_called_otherwise_is_the_same():
    names = {
        "the training pictures": "the training images",
        "the sentences (captions, templates)": "the prompts (captions, templates)",
    }
    for before, now in names.items():
        assert changes({before: "x"}, {now: "x"}) == []
        assert changes({before: "x"}, {now: "y"}) == [now]


def colours(*values):
    return [Image.new("RGB", (4, 4), (value, 0, 0)) for value in values]


def data(values=(1, 2), prompts=("a <w>", "the <w>"), concept=0, masks=(), repeats=(1, 1)):
    images = tuple(TrainingImage(concept, (prompt,), repeats=n) for prompt, n in zip(prompts, repeats, strict=True))
    files = [ImageFile(Path("image"), image.size, content_digest(image)) for image in colours(*values)]
    kept = [MaskFile(Path("mask"), mask.size, False, content_digest(mask), False) for mask in masks]
    return fingerprint.of_data(ReadImages(images, tuple(files), tuple(kept)))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (dict(values=(1, 3)), ["the training images"]),
        (dict(values=(2, 1)), ["the training images"]),
        (dict(prompts=("a <w>", "a <w>")), ["the prompts (captions, templates)"]),
        (dict(concept=1), ["the prompts (captions, templates)"]),
        (dict(masks=[Image.new("L", (4, 4))]), ["the masks"]),
        (dict(repeats=(10, 20)), ["the repeats of the images"]),
        (dict(repeats=(10, 10)), []),
        ({}, []),
    ],
)
def test_data_counts_by_its_contents(changed, told):
    assert changes(data(), data(**changed)) == told


def of_model(folder, learned=(), prompts=("a photo",)):
    return fingerprint.of_model(load_base_model(folder), learned, (16, 16), prompts)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_base_model_counts_by_its_weights_wherever_and_however_they_lie(tmp_path, family):
    ours = of_model(build_model(tmp_path / "a", family))

    assert of_model(build_model(tmp_path / "b", family, "diffusers")) == ours
    changed = changes(ours, of_model(build_model(tmp_path / "c", family, seed=1)))
    assert changed == ["the base model"]


def test_of_a_base_model_the_noise_schedule_and_the_tokens_count_too(tmp_path):
    ours = of_model(build_model(tmp_path / "a"))

    for different in (
        of_model(build_model(tmp_path / "b", scheduler=dict(beta_end=0.02))),
        of_model(build_model(tmp_path / "c", scheduler=dict(prediction_type="v_prediction"))),
        of_model(tmp_path / "a", prompts=("a dog",)),
    ):
        assert changes(ours, different) == ["the base model"]


def test_an_embedding_to_start_from_counts(tmp_path):
    folder = build_model(tmp_path / "a")
    ours, other = (
        of_model(folder, [LearnedEmbedding("<w>", {"text_encoder": np.full((1, 32), value, np.float32)}, {})])
        for value in (1.0, 2.0)
    )
    assert changes(ours, other) == ["the embeddings to start from"]
