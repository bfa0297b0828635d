"""An image of something else among the training images is named; among images of one thing none is. By value."""

import numpy as np

from textual_inversion.evaluation.leave_one_out import as_json, gains, table

NAMES = ["a.png", "b.png", "odd.png", "c.png"]
AXES = np.eye(3)
SEEDS = np.array([0.0, 0.02, -0.01, 0.03, -0.02, 0.01])[:, None] * AXES[2]  # what the seeds do to all alike


def drawn(likeness):
    """Features of images that are so like the first axis; what is missing is like the second."""
    return likeness * AXES[0] + (1 - likeness) * AXES[1] + SEEDS


def test_the_image_that_hurts_is_named():
    training = np.stack([AXES[0], AXES[0], AXES[1], AXES[0]])  # the third shows something else
    without = [drawn(0.7), drawn(0.71), drawn(0.95), drawn(0.69)]
    found = gains(NAMES, drawn(0.7), without, training)
    assert as_json(found)["hurts"] == "odd.png"
    assert [round(one.gain.value, 3) for one in found] == [0, 0.003, 0.25, -0.003]
    assert table(found)[-1] == "odd.png hurts: the word is better without it"


def test_among_images_of_one_thing_none_hurts():
    training = np.stack([AXES[0]] * 4)
    noise = np.random.default_rng(0).normal(0, 0.05, (4, 6, 3))
    found = gains(NAMES, drawn(0.9), [drawn(0.9) + own for own in noise], training)
    assert as_json(found)["hurts"] is None and table(found)[-1] == "no image hurts"
