"""An image of something else among the others is named, and no image is where all are learned or none is."""

import numpy as np
import pytest

from textual_inversion.system.tracking import Tracker
from textual_inversion.training.image_losses import ImageLosses, note_unlearned, unlearned
from textual_inversion.training.state import Record


class Samples:
    """Two samples of each image, the first of them with a hundred times the loss."""

    def __init__(self, *factors):
        self.images = np.repeat(np.arange(len(factors)), 2)
        self.factors = np.repeat(np.array(factors), 2)

    def losses(self):
        return np.resize([1.0, 0.01], len(self.images)) * self.factors


def losses_after(*factors, concepts=None):
    record = Record()
    for step, own in ((0, [1.0] * len(factors)), (9, factors)):
        ImageLosses(Samples(*own), record, Tracker()).look(step)
    return record


def test_the_image_whose_loss_stays_is_named_with_its_figures():
    record = losses_after(0.6, 0.7, 0.98, 0.64)

    note_unlearned(record, [0] * 4, ["a.png", "b.png", "other.png", "c.png"])

    assert record.figures["unlearned_names"] == {"2": "other.png"}
    assert record.figures["image_losses"]["2"] == pytest.approx([0.1, 0.098])
    assert record.figures["unlearned_images"] == {"2": pytest.approx([0.02, 0.33])}


@pytest.mark.parametrize(
    "factors",
    [(0.6, 0.7, 0.8, 0.65), (1.0, 1.0, 1.0, 1.0), (0.97, 0.96, 1.0, 0.97), (0.6, 1.0)],
    ids=["all learned", "none learned", "next to nothing learned", "two images"],
)
def test_no_image_is_named_where_none_is_behind(factors):
    record = losses_after(*factors)

    note_unlearned(record, [0] * 4, "abcd")

    assert set(record.figures) == {"image_losses"}


def test_images_are_compared_with_those_of_their_own_concept():
    record = losses_after(0.5, 0.5, 0.5, 0.97, 0.96, 0.97)

    assert unlearned(record.figures["image_losses"], [0, 0, 0, 1, 1, 1]) == {}
    assert set(unlearned(record.figures["image_losses"], [0] * 6)) == {3, 4, 5}


def test_a_loss_that_rose_or_stayed_is_noted():
    record = losses_after(0.5, 0.5, 0.5, 1.2, 1.0)

    note_unlearned(record, [0] * 5, "abcde")

    assert record.figures["unlearned_images"] == {"3": pytest.approx([-0.2, 0.5]), "4": pytest.approx([0.0, 0.5])}


def test_a_run_that_ended_early_has_no_image_to_name():
    record = Record()
    ImageLosses(Samples(1.0, 1.0, 1.0), record, Tracker()).look(0)

    assert record.figures["image_losses"] == {str(i): [pytest.approx(0.1)] for i in range(3)}
    assert unlearned(record.figures["image_losses"], [0] * 3) == {}
