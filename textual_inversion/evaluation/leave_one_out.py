"""Which training image hurts: a word learned without each of them, held against the word learned from all.

Both are judged by the images that both have learned from: the mean CLIP similarity of what they draw, with the same
prompt and seeds, to all training images but the one in question. Where the word without it comes out better by more
than chance (`standard_errors.paired`), that image is not of the same thing, or spoils it. Nothing here imports Paddle.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from textual_inversion.evaluation.standard_errors import BETTER, CHANCE, WORSE, Difference, paired

_SAYS = {BETTER: "hurts", WORSE: "helps", CHANCE: "no difference beyond chance"}


@dataclass(frozen=True)
class Without:
    """The word that was learned without an image: how much better it is than the word learned from all."""

    image: str
    gain: Difference


def gains(
    names: Sequence[str], whole: np.ndarray, without: Sequence[np.ndarray], training: np.ndarray
) -> list[Without]:
    """What leaving out each image gains.

    Args:
        names: of the m training images.
        whole: CLIP features of what the word learned from all draws, float [n, P].
        without: for each training image those of the word learned without it, [n, P], from the same prompts and seeds.
        training: of the training images, [m, P].
    """
    found = []
    for number, (name, own) in enumerate(zip(names, without, strict=True)):
        others = np.mean(np.delete(training, number, axis=0), axis=0)
        each = [[float(v) for v in np.asarray(features, np.float64) @ others] for features in (whole, own)]
        found.append(Without(name, paired(*each)))
    return found


def worst(found: Sequence[Without]) -> Without | None:
    """The image that hurts most; None where none does by more than chance."""
    hurting = [one for one in found if one.gain.verdict == BETTER]
    return max(hurting, key=lambda one: one.gain.value or 0.0, default=None)


def as_json(found: Sequence[Without]) -> dict[str, Any]:
    """All of it, and the image that hurts."""
    rows = [{"image": one.image, "gain": one.gain.value, "standard_error": one.gain.error,
             "verdict": _SAYS[one.gain.verdict]} for one in found]  # fmt: skip
    hurting = worst(found)
    return {"without": rows, "hurts": None if hurting is None else hurting.image}


def table(found: Sequence[Without]) -> list[str]:
    """A row for each image, and a sentence."""
    width = max(len("without"), *(len(one.image) for one in found))
    rows = [f"{'without':<{width}}  {'likeness to the others':>22}  so the image"]
    for one in found:
        gain = f"{one.gain.value:+.3f} ± {one.gain.error:.3f}"
        rows.append(f"{one.image:<{width}}  {gain:>22}  {_SAYS[one.gain.verdict]}")
    hurting = worst(found)
    rows.append("no image hurts" if hurting is None else f"{hurting.image} hurts: the word is better without it")
    return rows
