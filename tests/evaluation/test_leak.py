"""Background leak on a tiny model: against masks by value."""

import numpy as np
import pytest
from PIL import Image

from helpers.tiny_models import FAMILIES, build_model
from textual_inversion.evaluation import leak as module
from textual_inversion.evaluation.leak import background_leak
from textual_inversion.models.attach import attach_concepts
from textual_inversion.models.base_model import load_base_model


def taught(folder, family="sd1"):
    model = load_base_model(build_model(folder, family))
    vectors = {one.name: np.full((2, one.embedding_width), 0.02, np.float32) for one in model.text_encoders}
    attach_concepts(model, {"<w>": 2}, vectors)
    return model


def left_half(side):
    mask = Image.new("L", (side, side), 0)
    mask.paste(255, (0, 0, side // 2, side))
    return mask


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_leak(tmp_path, family):
    model = taught(tmp_path, family)
    side = model.resolution
    images = [Image.new("RGB", (side, side), (40 * i, 90, 10)) for i in range(2)]
    found = background_leak(model, ["toy", "<w>"], images, [left_half(side)] * 2)
    assert found["outside"] == 0.5 and 0 < found["concept"] < 1 and 0 < found["baseline"] < 1
    whole = background_leak(model, ["toy", "<w>"], images[:1], [Image.new("L", (side, side), 255)])
    assert whole["concept"] == 0 and whole["outside"] == 0
    nothing = background_leak(model, ["toy", "<w>"], images[:1], [Image.new("L", (side, side), 0)])
    assert nothing["concept"] == pytest.approx(1) and "standard_error" not in nothing


@pytest.mark.parametrize(
    "word, found",
    [("<w>", [5, 6]), ("toy", [4]), ("Toy", [4]), ("toy <w>", [4, 5, 6]), ("玩具", [2, 3]), ("cat", [])],
)
def test_where_a_word_or_phrase_is_read(word, found):
    places = [("a", [1]), ("玩", [2]), ("具", [3]), ("toy", [4]), ("<w>", [5, 6])]
    assert module._tokens_of(places, word) == found


def test_a_word_that_means_the_background_leaks_and_one_that_means_the_thing_does_not(tmp_path, monkeypatch):
    model, side = taught(tmp_path), 16
    (place,) = [p for w, p in model.text_encoders[0].encode_ids.places("a photo of a <w>") if w == "<w>"]
    maps = np.zeros((2, 77, 8, 8), np.float32)
    maps[0, :, :, :4] = 1.0  # the baseline's: all on the thing
    maps[1][place, :, 4:] = 1.0  # the word's: all beside it

    monkeypatch.setattr(module, "_maps_of", lambda *_: maps)
    found = background_leak(model, ["toy", "<w>"], [Image.new("RGB", (side, side))] * 2, [left_half(side)] * 2)
    assert found == {"baseline": 0.0, "concept": 1.0, "outside": 0.5, "standard_error": 0.0}
    monkeypatch.setattr(module, "_maps_of", lambda *_: maps[:, :, :, ::-1])
    assert background_leak(model, ["toy", "<w>"], [Image.new("RGB", (side, side))], [left_half(side)])["concept"] == 0
