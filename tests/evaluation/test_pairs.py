"""What is left of a word beside another one, by value."""

import numpy as np
import pytest

from demo.drawing import draw
from demo.specs import HELD_OUT_TOYS, PHOTO, SCENES, Toy
from demo.toyworld import fresh_drawings
from helpers.paths import ROOT
from textual_inversion.evaluation.clip import ClipScorer
from textual_inversion.evaluation.pairs import survival, table, views
from textual_inversion.evaluation.pairs_measuring import features_of_views

CAT, DOG = np.array([1.0, 0.0]), np.array([0.0, 1.0])


def images(*shares):
    """Features of images, one view of each, that show so much of the cat, the rest of the dog."""
    return np.stack([share * CAT + (1 - share) * DOG for share in shares])[:, None]


def test_a_word_that_survives_and_one_that_is_driven_out():
    alone, other = images(1, 1), images(0, 0)
    both = survival("<cat>", "<dog>", images(0.4, 0.6), alone, other, CAT[None])
    assert both.share == 0.5 and round(both.error, 3) == 0.1 and both.survives
    gone = survival("<cat>", "<dog>", images(0.0, 0.1), alone, other, CAT[None])
    assert gone.share == 0.05 and not gone.survives
    kept = survival("<dog>", "<cat>", images(0.0, 0.1), other, alone, DOG[None])
    assert round(kept.share, 6) == 0.95 and kept.survives
    rows = table([both, gone, kept])
    assert rows[1].endswith("50% ± 10%  yes") and rows[2].endswith("no") and rows[3].endswith("yes")


def test_words_that_draw_the_same_cannot_be_told_apart():
    found = survival("<a>", "<b>", images(1, 1), images(1, 1), images(1, 1), CAT[None])
    assert found.share is None and not found.survives and "cannot be told" in table([found])[1]


def test_what_is_most_like_the_word_counts_wherever_it_stands():
    there = np.stack([images(0, 0)[:, 0], images(1, 1)[:, 0]], axis=1)  # of two views the second shows the cat
    assert survival("<cat>", "<dog>", there, images(1, 1), images(0, 0), CAT[None]).share == 1


@pytest.mark.parametrize("size", [(64, 64), (90, 60), (60, 90)])
def test_views_are_the_whole_and_squares_that_reach_every_edge(size):
    image = fresh_drawings("cat", 1, size=90)[0].crop((0, 0, *size))
    whole, *parts = views(image)
    assert whole is image and len(parts) == 9 and {part.size for part in parts} == {(round(0.65 * min(size)),) * 2}
    side = parts[0].width
    corners = [(0, 0), (size[0] - side, 0), (0, size[1] - side), (size[0] - side, size[1] - side)]
    for part, (x, y) in zip((parts[0], parts[2], parts[6], parts[8]), corners, strict=True):
        assert part.tobytes() == image.crop((x, y, x + side, y + side)).tobytes()


def test_two_toys_side_by_side_both_survive_and_a_toy_that_is_missing_does_not():
    scorer = ClipScorer(ROOT / "demo/model/clip")
    cat, rabbit = HELD_OUT_TOYS["cat"], HELD_OUT_TOYS["rabbit"]
    another = Toy("robot", "grey", "red", "white", "plain")
    scenes = list(enumerate(SCENES))
    alone = {name: features_of_views(scorer, fresh_drawings(name, 6)) for name in ("cat", "rabbit")}
    training = {name: scorer.image_features(fresh_drawings(name, 6, seed=1)) for name in ("cat", "rabbit")}

    def left(word, beside, shown):
        drawn = [draw(shown[0], scene, PHOTO, 64, seed=i, beside=shown[1]) for i, scene in scenes]
        features = features_of_views(scorer, drawn)
        return survival(word, beside, features, alone[word], alone[beside], training[word])

    for shown in ((cat, rabbit), (rabbit, cat)):
        assert left("cat", "rabbit", shown).survives and left("rabbit", "cat", shown).survives
    for without_cat in ((another, rabbit), (rabbit, another)):
        assert not left("cat", "rabbit", without_cat).survives
    for without_rabbit in ((another, cat), (cat, another)):
        assert not left("rabbit", "cat", without_rabbit).survives
