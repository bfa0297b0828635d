"""Which of several learned words survive together in one prompt.

For each pair, "a photo of a A and a B" is drawn, and beside it the plain prompt of each alone, with the same seeds. How
much of A is left in the images of both is the share of the way from the images of B alone (where there is nothing of
A) to those of A alone, measured by the CLIP similarity with A's training images. These show A alone and large, which no
image of both can. So of each image the whole is looked at and nine parts of it (`views`), and what is most like A
counts. Even good drawings of two toys come half of the way; a word survives where it has at least `SURVIVES` of the
way. Nothing imports Paddle.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from textual_inversion.evaluation.standard_errors import standard_error

SURVIVES = 0.25
PART, PLACES = 0.65, 3  # side of a part, of the shorter side; places of parts along each side
PROMPTS = {"en": "a photo of a {} and a {}", "zh": "一张{}和{}的照片"}


@dataclass(frozen=True)
class Survival:
    """What is left of a word beside another one.

    Attributes:
        word, beside: placeholder tokens.
        share: of the way from no trace of the word (0) to the word alone (1); None where the two look the same.
        error: its standard error over the images.
    """

    word: str
    beside: str
    share: float | None
    error: float | None = None

    @property
    def survives(self) -> bool:
        """Whether enough of the word is left."""
        return self.share is not None and self.share >= SURVIVES


def views(image: Image.Image) -> list[Image.Image]:
    """The whole image, and squares of it that overlap: 1 + `PLACES`² images."""
    side = round(PART * min(image.size))
    lefts, tops = ([round(at) for at in np.linspace(0, length - side, PLACES)] for length in image.size)
    return [image, *(image.crop((x, y, x + side, y + side)) for y in tops for x in lefts)]


def survival(
    word: str, beside: str, together: np.ndarray, alone: np.ndarray, other: np.ndarray, training: np.ndarray
) -> Survival:
    """What is left of a word beside another one, from CLIP features of unit norm.

    Args:
        together: of all views of the images of both words, float [n, V, P].
        alone, other: of the images of the word, and of the other one, with the same seeds, float [n, V, P].
        training: of the word's training images, float [m, P].
    """
    centre = np.mean(training, axis=0)
    both, own, none = ((np.asarray(one, np.float64) @ centre).max(axis=1) for one in (together, alone, other))
    way = float(own.mean() - none.mean())
    if way <= 0:
        return Survival(word, beside, None)
    error = standard_error([float(value) for value in (both - none) / way])
    return Survival(word, beside, float((both.mean() - none.mean()) / way), error)


def as_json(found: Sequence[Survival]) -> list[dict[str, Any]]:
    """All of it."""
    return [{**vars(one), "survives": one.survives} for one in found]


def table(found: Sequence[Survival]) -> list[str]:
    """A row for each word beside each other one."""
    width = max(len("word"), *(len(one.word) for one in found))
    other = max(len("beside"), *(len(one.beside) for one in found))
    rows = [f"{'word':<{width}}  {'beside':<{other}}  {'left of it':>16}  survives"]
    for one in found:
        share = (
            "-" if one.share is None else f"{one.share:.0%}" + (f" ± {one.error:.0%}" if one.error is not None else "")
        )
        says = "cannot be told: both words draw the same" if one.share is None else ("yes" if one.survives else "no")
        rows.append(f"{one.word:<{width}}  {one.beside:<{other}}  {share:>16}  {says}")
    return rows
