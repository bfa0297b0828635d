"""The best step so far: what it is judged by, and that its rows are kept."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import train_textual_inversion
from helpers.tiny_clip import build_clip
from helpers.training_runs import short_run
from textual_inversion.data import images
from textual_inversion.formats.embedding_file import read_embeddings
from textual_inversion.system.errors import SettingsError
from textual_inversion.training import best_step

KEEP = ["--keep_best", "--only_save_embeds", "--save_steps", "1", "--max_train_steps", "4"]
PICTURES = ["--validation_prompt", "a photo of a <cat-toy>", "--validation_steps", "1", "--num_validation_images", "2"]


def rows_of(path):
    return read_embeddings(path)[0].vectors["text_encoder"]


def record(folder):
    return json.loads((folder / "run.json").read_text())["figures"]["best"]


def test_pictures_are_judged_where_there_is_a_clip_model(tmp_path, capsys):
    argv = short_run(tmp_path, *KEEP, *PICTURES)
    build_clip(tmp_path / "base" / "clip")

    train_textual_inversion.main(argv)

    kept = record(tmp_path / "out")
    assert kept["by"] == best_step.BY_PICTURES and set(kept["scores"]) == {"0", "1", "2", "3", "4"}
    trained = {int(step): score for step, score in kept["scores"].items() if step != "0"}
    assert kept["step"] == max(trained, key=trained.get) and kept["score"] == max(trained.values())
    at_that_step = tmp_path / "out" / f"learned_embeds-steps-{kept['step']}.pdparams"
    np.testing.assert_array_equal(rows_of(tmp_path / "out" / kept["file"]), rows_of(at_that_step))
    said = capsys.readouterr()
    assert f"kept as learned_embeds-best.pdparams, judged by the {best_step.BY_PICTURES}" in said.out
    assert f"best step: {kept['step']} by the {best_step.BY_PICTURES}" in said.out and "the best so far" in said.err


def test_a_clip_model_can_be_named(tmp_path):
    argv = short_run(tmp_path, *KEEP, *PICTURES, "--clip_model", str(build_clip(tmp_path / "clip")))

    train_textual_inversion.main(argv)

    assert record(tmp_path / "out")["by"] == best_step.BY_PICTURES


@pytest.mark.parametrize("prompts", [[], PICTURES, ["--validation_prompt", "a dog"]])
def test_the_loss_is_judged_where_there_is_none(tmp_path, prompts, capsys):
    train_textual_inversion.main(short_run(tmp_path, *KEEP, *prompts, "--eval_steps", "1"))

    kept = record(tmp_path / "out")
    trained = {int(step): loss for step, loss in kept["scores"].items() if step != "0"}
    assert kept["by"] == best_step.BY_LOSS and kept["step"] == min(trained, key=trained.get)
    at_that_step = tmp_path / "out" / f"learned_embeds-steps-{kept['step']}.pdparams"
    np.testing.assert_array_equal(rows_of(tmp_path / "out" / kept["file"]), rows_of(at_that_step))
    assert f"best step: {kept['step']} by the loss on the fixed set" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([*PICTURES, "--eval_steps", "0"], "--keep_best finds no CLIP model"),
        (["--validation_prompt", "a dog", "--clip_model", "x"], "no prompt of them holds a learned word"),
        ([*PICTURES, "--clip_model", "none"], "--clip_model none is neither a folder"),
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
    """The mean colour of a picture as its features."""

    def image_features(self, pictures):
        features = np.array([np.asarray(picture, dtype=float).mean(axis=(0, 1)) for picture in pictures])
        return features / np.linalg.norm(features, axis=1, keepdims=True)


def test_the_score_is_the_mean_over_the_concepts():
    red, blue = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    run = SimpleNamespace(
        concepts=[SimpleNamespace(placeholder_token=word) for word in ("<a>", "<b>", "<c>")],
        pixels=[images.to_array(picture) for picture in (red, red, red, blue)],
        images=[SimpleNamespace(concept=index) for index in (0, 0, 0, 1)],
        model=SimpleNamespace(text_encoders=[SimpleNamespace(encode_ids=Encoder())]),
    )
    likeness = best_step._Likeness(run, Scorer())

    assert likeness(["a <a>", "a <a>", "a <b>", "a dog"], [red, red, blue, blue]) == pytest.approx(1.0)
    assert likeness(["a <a>", "a <a>", "a <b>"], [blue, red, red]) == pytest.approx((0.5 + 0.0) / 2)
    assert likeness(["a <a> and <b>"], [red]) == pytest.approx((1.0 + 0.0) / 2)
