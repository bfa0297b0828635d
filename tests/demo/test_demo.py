"""The demo: what ships, and that it learns a toy that its model has never seen."""

import json

import pytest

import train_textual_inversion
from demo import shipped
from helpers.paths import ROOT
from textual_inversion.data.image_folder import find_images
from textual_inversion.data.images import load_image
from textual_inversion.data.templates import templates
from textual_inversion.models.prompt_encoder import PromptEncoder

MODEL = ROOT / "demo" / "model"


def test_the_model_is_small_enough_to_clone():
    sizes = [path.stat().st_size for path in MODEL.rglob("*") if path.is_file()]

    assert sum(sizes) < 30e6
    assert max(sizes) < 15e6


@pytest.mark.slow
def test_the_model_loads_in_ppdiffusers_as_any_other():
    from ppdiffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(str(MODEL))

    image = pipe("a photo of a toy", num_inference_steps=2, height=64, width=64).images[0]
    assert image.size == (64, 64)


@pytest.mark.parametrize("learnable_property", ["object", "style"])
def test_every_word_of_the_training_sentences_is_one_token_of_the_model(learnable_property):
    from textual_inversion.models.tokenizers import load_clip_tokenizer

    encoder = PromptEncoder(load_clip_tokenizer(MODEL / "tokenizer", longest=77))

    words = {word for t in templates(learnable_property) for word in t.replace("{}", "").replace("-", " - ").split()}
    assert {word for word in words if len(encoder.token_ids(word)) != 1} == set()


@pytest.mark.parametrize("folder", shipped.CONCEPTS)
def test_each_concept_comes_as_six_images_with_a_licence_and_can_be_drawn_anew(folder):
    paths = find_images(ROOT / folder)

    assert [load_image(path).size for path in paths] == [(512, 512)] * 6
    assert "Apache" in (ROOT / folder / "LICENSE.txt").read_text()
    assert [image.size for image in shipped.fresh_drawings(str(ROOT / folder), 64, 2)] == [(64, 64)] * 2


def test_no_fresh_drawings_of_other_folders(tmp_path):
    assert shipped.fresh_drawings(str(tmp_path), 64) == []


@pytest.mark.slow
def test_without_arguments_a_toy_is_learned_that_the_model_never_saw(tmp_path, capsys):
    """The quick start, whole: three quarters of the way to fresh drawings at least, and the word still composes."""
    train_textual_inversion.main(["--output_dir", str(tmp_path / "out")])

    score = json.loads((tmp_path / "out" / "run.json").read_text())["figures"]["scores"]["<cat-toy>"]
    assert score["share_of_the_way"] >= 0.75
    assert score["text_ratio"] >= 0.85
    losses = list(json.loads((tmp_path / "out" / "run.json").read_text())["figures"]["fixed_set_loss"].values())
    assert losses[-1] < losses[0]
    assert load_image(tmp_path / "out" / "overview.png").width > 600
    assert "of the way" in capsys.readouterr().out
