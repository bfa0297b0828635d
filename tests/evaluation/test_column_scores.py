"""Scores of the columns of a comparison."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from textual_inversion.embeddings.files import read_concept_files
from textual_inversion.evaluation.column_scores import ColumnScorer, column_scores, table
from textual_inversion.system.paths import from_root

MODEL = SimpleNamespace(resolution=8, side_factor=8)
COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


class ColorScorer:
    """Stands for a CLIP model: the feature of an image is its mean colour, of a text the colour that it names."""

    def __init__(self):
        self.read = []

    def image_features(self, images):
        return self._unit([np.asarray(image, dtype=np.float32).reshape(-1, 3).mean(0) for image in images])

    def text_features(self, texts):
        self.read += texts
        return self._unit([COLORS[next(word for word in text.split() if word in COLORS)] for text in texts])

    def _unit(self, values):
        values = np.asarray(values, dtype=np.float32)
        return values / np.linalg.norm(values, axis=1, keepdims=True)


def image(*color):
    return Image.new("RGB", (8, 8), color)


@pytest.fixture
def columns(tmp_path):
    (file,) = read_concept_files([from_root("demo/learned_embeds.pdparams")])
    for name, color in (("reds", COLORS["red"]), ("blues", COLORS["blue"])):
        (tmp_path / name).mkdir()
        image(*color).save(tmp_path / name / "0.png")
    here = {name: {"settings": {"train_data_dir": str(tmp_path / name)}} for name in ("reds", "blues", "gone")}
    return {name: dataclasses.replace(file, path=Path(f"{name}.pdparams"), run=run) for name, run in here.items()}


def test_an_image_is_held_against_its_prompt_and_its_columns_own_training_images(columns):
    notes, clip = [], ColorScorer()
    scorer = ColumnScorer(clip, columns, MODEL, notes.append)
    purple = image(200, 0, 200)

    assert scorer.score(purple, "a red <cat-toy>", "reds") == {"text_similarity": 0.7071, "image_similarity": 0.7071}
    assert scorer.score(image(0, 0, 9), "a red <cat-toy>", "blues") == {"text_similarity": 0.0, "image_similarity": 1.0}
    assert scorer.score(purple, "a red <cat-toy>", "gone") == {"text_similarity": 0.7071}
    assert scorer.score(purple, "<cat-toy>", "reds") == {"image_similarity": 0.7071}
    assert scorer.score(purple, "a red dog", "reds") == {"text_similarity": 0.7071}
    assert clip.read == ["a red", "a red dog"], "each text is read once, without the placeholder"
    (note,) = notes
    assert "gone, which is no folder here; its column is scored by its prompts alone" in note


def test_a_columns_score_is_the_mean_of_its_images():
    facts = [
        {"embeds": "a", "score": {"text_similarity": 0.2, "image_similarity": 0.5}},
        {"embeds": "b", "score": {"text_similarity": 0.4}},
        {"embeds": "a", "score": {"text_similarity": 0.4}},
        {"embeds": "c"},
    ]

    scores = column_scores(facts)

    assert list(scores) == ["a", "b", "c"] and scores["c"] == {}
    assert scores["a"] == {"text_similarity": pytest.approx(0.3), "image_similarity": 0.5}
    rows = [row.split() for row in table(scores)]
    assert rows == [
        ["column", "image", "similarity", "text", "similarity"],
        ["a", "0.500*", "0.300"],
        ["b", "-", "0.400*"],
        ["c", "-", "-"],
    ]
