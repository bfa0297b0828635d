"""The word nearest to the images: which words are asked, how they are ranked, and what a run does with it."""

import json

import numpy as np
import pytest
from PIL import Image

from helpers.configs import parsed
from helpers.tiny_clip import build_clip
from helpers.tiny_models import WORDS
from helpers.training_runs import draw_images, short_run
from textual_inversion.evaluation.clip import ClipScorer
from textual_inversion.system.errors import SettingsError
from textual_inversion.training.nearest_words import nearest
from train_textual_inversion import main


class Scorer:
    """Features in a plane: every word at an angle of its own, and images at another."""

    def __init__(self, angles, images):
        self.angles, self.images, self.asked = angles, images, []

    def _at(self, angles):
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    def image_features(self, images):
        return self._at(np.array([self.images[i] for i in images]))

    def text_features(self, texts, *, trimmed):
        self.asked += texts
        return self._at(np.array([self.angles[text.split()[-1]] for text in texts]))


def test_words_are_ranked_by_the_cosine_with_the_mean_of_the_images():
    scorer = Scorer({"cat": 0.0, "dog": 0.9, "toy": 0.4}, [0.2, 0.6, 0.4])

    ranked = nearest(scorer, [0, 1, 2], ["cat", "dog", "toy"], "object")

    assert [word for word, _ in ranked] == ["toy", "cat", "dog"]
    assert [cosine for _, cosine in ranked] == pytest.approx(np.cos([0.0, 0.4, 0.5]), abs=1e-6)
    assert scorer.asked[0] == "a photo of a cat"


def test_a_style_is_asked_for_as_a_painting():
    scorer = Scorer({"cat": 0.0}, [0.0])
    nearest(scorer, [0], ["cat"], "style")

    assert scorer.asked == ["a painting in the style of cat"]


def test_trimmed_texts_have_the_same_features(tmp_path):
    scorer = ClipScorer(build_clip(tmp_path))
    texts = ["a photo of a cat", "cat", "a", "a rendering of a small toy on the beach"]

    np.testing.assert_allclose(scorer.text_features(texts, trimmed=True), scorer.text_features(texts), atol=1e-6)


def two_concepts(tmp_path):
    """Arguments of a run with a concept that asks for its word, and one that names it."""
    argv = short_run(tmp_path, "--only_save_embeds", "--eval_steps", "0")
    draw_images(tmp_path / "others", 2)
    for name in sorted((tmp_path / "others").iterdir()):
        Image.new("RGB", (20, 20), (250, 20, 20)).save(name)
    folder = argv.index("--train_data_dir")
    argv[folder + 1 : folder + 2] = [str(tmp_path / "pictures"), str(tmp_path / "others")]
    return [*argv, "--placeholder_token", "<a>", "<b>", "--initializer_token", "auto", "dog"]


@pytest.mark.slow
def test_a_run_starts_each_concept_from_its_own_word_and_records_it(tmp_path, capsys):
    argv = two_concepts(tmp_path)
    build_clip(tmp_path / "base/clip")

    main(argv)

    said = capsys.readouterr().out
    (line,) = [line for line in said.splitlines() if "has the lowest loss" in line]
    tried = [one.rsplit(" ", 1) for one in line.split(": ")[-1].split(", ")]
    assert line.startswith("<a>: ") and 5 <= len(tried) <= 6 and "toy" in [word for word, _ in tried]
    losses = [float(loss) for _, loss in tried]
    assert losses == sorted(losses)
    word = tried[0][0]
    assert word in WORDS and f"<a> as 1 vector(s), starting from {word!r}" in said
    assert "<b> as 1 vector(s), starting from 'dog'" in said
    settings = json.loads((tmp_path / "out/run.json").read_text())["settings"]
    assert settings["initializer_token"] == [word, "dog"]
    assert parsed(["--config", str(tmp_path / "out/config.yaml")]).initializer_token == (word, "dog")


@pytest.mark.slow
def test_without_a_clip_model_it_is_refused_with_both_ways_out(tmp_path, capsys):
    with pytest.raises(SettingsError, match="auto looks at the images.*--clip_model openai.*or name the word"):
        main(two_concepts(tmp_path))

    main([*two_concepts(tmp_path), "--clip_model", str(build_clip(tmp_path / "elsewhere", preprocessor=False))])

    assert "elsewhere does not say how it wants its images; CLIP's usual mean and std" in capsys.readouterr().out


def test_a_clip_model_that_nothing_looks_with_is_refused():
    with pytest.raises(
        SettingsError, match="--clip_model has no effect without --keep_best or --initializer_token auto"
    ):
        parsed(["--clip_model", "there", "--initializer_token", "toy"])
