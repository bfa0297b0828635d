"""Which training image is not learned: the loss of each image, before training and at its end.

A mean over all images hides the one that shows something else: its loss stays as it was, or rises, while that of the
others falls. All images are looked at with the same timesteps and the same noise, so that their losses differ by the
images alone. The loss of an image is the geometric mean of its samples', by which a fall of each counts alike: at much
noise losses are a tenth of those at less noise.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from textual_inversion.data.sampler import SampleStream
from textual_inversion.system.tracking import Tracker
from textual_inversion.training.fixed_set import FixedSet, by_group
from textual_inversion.training.state import Record

EACH = 6  # samples of each image
MOST_IMAGES = 48  # beyond, it would take longer than many steps; and one image among so many does little harm
_TINY = 1e-30  # for a loss of nothing but black mask, which has no logarithm
_LEAST_IMAGES = 3  # of a concept: with two nobody knows which one is the other
_LEAST_FALL = 0.05  # that the median image's loss must have fallen by, before an image can be behind the others
_BEHIND = 0.25  # of the median image's fall: less than that is behind


class ImageLosses:
    """Measures the loss of each image before the first step and after the last, into the figure `image_losses`.

    The figure is index of the image, as text -> [before, after], of which a run that still trains has the first.

    Args:
        fixed_set: of `SampleStream.image_batches(EACH)`.
    """

    def __init__(self, fixed_set: FixedSet, record: Record, tracker: Tracker):
        self._fixed_set, self._record, self._tracker = fixed_set, record, tracker

    def look(self, step: int) -> None:
        """Measure the losses; step 0 is before any training."""
        figures = self._record.figures.setdefault("image_losses", {})
        logs = np.log(np.maximum(self._fixed_set.losses(), _TINY))
        for image, mean in by_group(logs, self._fixed_set.images).items():
            loss = float(np.exp(mean))
            self._tracker.scalar(f"eval/image_loss_{image}", loss, step)
            figures[str(image)] = [loss] if step == 0 else [*figures.get(str(image), [])[:1], loss]


def are_measured(samples: SampleStream) -> bool:
    """Whether a run has few enough images, and enough to compare one with others."""
    return _LEAST_IMAGES <= sum(not image.is_contrast for image in samples.images) <= MOST_IMAGES


def unlearned(losses: Mapping[str, Sequence[float]], concepts: Sequence[int]) -> dict[int, tuple[float, float]]:
    """Index of an image that is not learned -> (share by which its loss fell, that of its concept's median image).

    An image is not learned if its loss fell by less than a quarter of what the median image's of its concept did, and
    the median image's fell by 5 % at least: where nothing is learned, no image is behind.

    Args:
        losses: from `ImageLosses`; images without a loss before and after are passed over.
        concepts: the concept of each image.
    """
    pairs = {int(image): pair for image, pair in losses.items() if len(pair) == 2 and pair[0] > 0}
    falls = {image: 1 - after / before for image, (before, after) in pairs.items()}
    found = {}
    for concept in sorted(set(concepts)):
        own = {image: fall for image, fall in falls.items() if concepts[image] == concept and np.isfinite(fall)}
        if len(own) < _LEAST_IMAGES:
            continue
        median = float(np.median(list(own.values())))
        if median >= _LEAST_FALL:
            found |= {image: (fall, median) for image, fall in own.items() if fall < _BEHIND * median}
    return found


def note_unlearned(record: Record, concepts: Sequence[int], names: Sequence[str]) -> None:
    """Note images that were not learned in the figures `unlearned_images` and `unlearned_names`, for the report.

    Args:
        concepts, names: of each image: the index of its concept, and its file.
    """
    found = unlearned(record.figures.get("image_losses", {}), concepts)
    if found:
        record.figures["unlearned_images"] = {str(image): list(falls) for image, falls in found.items()}
        record.figures["unlearned_names"] = {str(image): names[image] for image in found}
