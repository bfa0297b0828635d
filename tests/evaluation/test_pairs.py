"""What is left of a word beside another one, by value."""

import numpy as np

from textual_inversion.evaluation.pairs import survival, table

CAT, DOG = np.array([1.0, 0.0]), np.array([0.0, 1.0])


def images(*shares):
    """Features of images that show so much of the cat, the rest of the dog."""
    return np.stack([share * CAT + (1 - share) * DOG for share in shares])


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
