"""The best step so far: what it is judged by, and that its vectors are kept."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import train_textual_inversion
from helpers.tiny_clip import build_clip
from helpers.training_runs import short_run, vectors_in
from textual_inversion.settings.concept import Concept
from textual_inversion.system.errors import SettingsError
from textual_inversion.training import best_step
from textual_inversion.training.state import ConceptVectors

KEEP = ["--keep_best", "--only_save_embeds", "--save_steps", "1", "--max_train_steps", "4"]
IMAGES = ["--validation_prompt", "a photo of a <cat-toy>", "--validation_steps", "1", "--num_validation_images", "2"]


def record(folder):
    return json.loads((folder / "run.json").read_text())["figures"]["best"]


@pytest.mark.slow
def test_images_are_judged_where_there_is_a_clip_model(tmp_path, capsys):
    argv = short_run(tmp_path, *KEEP, *IMAGES)
    build_clip(tmp_path / "base" / "clip")

    train_textual_inversion.main(argv)

    kept = record(tmp_path / "out")
    assert kept["by"] == best_step.BY_IMAGES and set(kept["scores"]) == {"0", "1", "2", "3", "4"}
    trained = {int(step): score for step, score in kept["scores"].items() if step != "0"}
    assert kept["step"] == max(trained, key=trained.get) and kept["score"] == max(trained.values())
    at_that_step = tmp_path / "out" / f"learned_embeds-steps-{kept['step']}.pdparams"
    np.testing.assert_array_equal(vectors_in(tmp_path / "out" / kept["file"]), vectors_in(at_that_step))
    best, same = (
        path.with_suffix(".safetensors").read_bytes() for path in (tmp_path / "out" / kept["file"], at_that_step)
    )
    assert best == same
    said = capsys.readouterr()
    assert f"kept as learned_embeds-best.pdparams, judged by the {best_step.BY_IMAGES}" in said.out
    assert f"best step: {kept['step']} by the {best_step.BY_IMAGES}" in said.out and "the best so far" in said.err


@pytest.mark.slow
def test_a_clip_model_can_be_named(tmp_path):
    argv = short_run(tmp_path, *KEEP, *IMAGES, "--clip_model", str(build_clip(tmp_path / "clip")))

    train_textual_inversion.main(argv)

    assert record(tmp_path / "out")["by"] == best_step.BY_IMAGES


@pytest.mark.slow
@pytest.mark.parametrize("prompts", [[], IMAGES, ["--validation_prompt", "a dog"]])
def test_the_loss_is_judged_where_there_is_none(tmp_path, prompts, capsys):
    train_textual_inversion.main(short_run(tmp_path, *KEEP, *prompts, "--eval_steps", "1"))

    kept = record(tmp_path / "out")
    trained = {int(step): loss for step, loss in kept["scores"].items() if step != "0"}
    assert kept["by"] == best_step.BY_LOSS and kept["step"] == min(trained, key=trained.get)
    at_that_step = tmp_path / "out" / f"learned_embeds-steps-{kept['step']}.pdparams"
    np.testing.assert_array_equal(vectors_in(tmp_path / "out" / kept["file"]), vectors_in(at_that_step))
    assert f"best step: {kept['step']} by the loss on the fixed set" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([*IMAGES, "--eval_steps", "0"], "--keep_best finds no CLIP model"),
        (["--validation_prompt", "a dog", "--clip_model", "x"], "none of their prompts holds a concept"),
        ([*IMAGES, "--clip_model", "none"], "--clip_model none is neither a folder nor in the cache"),
    ],
)
def test_what_cannot_be_judged_is_refused_before_training(tmp_path, more, message):
    with pytest.raises(SettingsError, match=message):
        train_textual_inversion.main(short_run(tmp_path, *KEEP, *more))


class Encoder:
    """Token ids of words, as a prompt encoder gives them."""

    def token_ids(self, text):
        return [{"<a>": 100, "<b>": 200}.get(word, 1) for word in text.split()]


class Scorer:
    """The mean colour of an image as its features."""

    def image_features(self, shown):
        features = np.array([np.asarray(image, dtype=float).mean(axis=(0, 1)) for image in shown])
        return features / np.linalg.norm(features, axis=1, keepdims=True)


def test_the_score_is_the_mean_over_the_concepts():
    red, blue = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    vectors = ConceptVectors([Concept(token) for token in ("<a>", "<b>", "<c>")], {}, {})
    data = SimpleNamespace(
        previews=[red, red, red, blue],
        images=[SimpleNamespace(concept=index, is_contrast=False) for index in (0, 0, 0, 1)],
    )
    model = SimpleNamespace(text_encoders=[SimpleNamespace(encode_ids=Encoder())])
    likeness = best_step._Likeness(model, vectors, data, Scorer())

    assert likeness(["a <a>", "a <a>", "a <b>", "a dog"], [red, red, blue, blue]) == pytest.approx(1.0)
    assert likeness(["a <a>", "a <a>", "a <b>"], [blue, red, red]) == pytest.approx((0.5 + 0.0) / 2)
    assert likeness(["a <a> and <b>"], [red]) == pytest.approx((1.0 + 0.0) / 2)


def test_images_that_a_word_is_trained_away_from_are_nothing_to_look_like():
    red, blue = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    vectors = ConceptVectors([Concept("<a>")], {}, {})
    images = [SimpleNamespace(concept=0, is_contrast=is_contrast) for is_contrast in (False, True)]
    model = SimpleNamespace(text_encoders=[SimpleNamespace(encode_ids=Encoder())])
    likeness = best_step._Likeness(model, vectors, SimpleNamespace(previews=[red, blue], images=images), Scorer())

    assert likeness(["a <a>"], [red]) == pytest.approx(1.0)
