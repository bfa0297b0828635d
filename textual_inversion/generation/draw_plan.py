"""The images of a plan, or of one process's share of it."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from PIL import Image

from textual_inversion.generation.generate import batches as cut
from textual_inversion.generation.generate import generate_batches, total_steps
from textual_inversion.generation.plan import Plan
from textual_inversion.models.attach import attach_files
from textual_inversion.models.base_model import BaseModel


def draw(
    model: BaseModel,
    plan: Plan,
    batches: Sequence[Sequence[int]],
    *,
    pipeline: Any,
    progress: Any = None,
    attention: Callable[[int, np.ndarray], None] | None = None,
) -> Iterator[tuple[int, Image.Image]]:
    """Draw the images of some of a plan's batches.

    In a comparison the model gets the files of one column after the other, and keeps the last ones.

    Args:
        batches: each with the positions of its images, as `plan_batches` cuts them from the whole plan: an image's
            bytes depend on which images are computed with it.
        pipeline: of the model, with the scheduler of requests that name none.
        progress: its `update` is told how many denoising steps of these batches are done.
        attention: as of `generate.generate_batches`.

    Yields:
        (position in the plan, RGB image), as `generate.generate_batches`, the images of a column one after the other.

    Raises:
        EmbeddingFileError, ConceptError: a column's file does not fit the model.
    """
    done = 0
    for label, own in _by_column(plan, batches):
        if label in plan.columns:
            attach_files(model, plan.columns[label])
        shifted = None if progress is None else _Shifted(progress, done)
        how = dict(pipeline=pipeline, progress=shifted, attention=attention)
        yield from generate_batches(model, plan.requests, own, **how)
        done += sum(total_steps([plan.requests[position] for position in batch]) for batch in own)


def plan_batches(plan: Plan, batch_size: int) -> list[list[int]]:
    """Batches of images with equal settings, cut from the whole plan, in the order of their first images."""
    return sorted(cut(plan.requests, batch_size))


def _by_column(plan: Plan, batches: Sequence[Sequence[int]]) -> Iterator[tuple[str, list[Sequence[int]]]]:
    """(label, batches) of each column, in the order of the plan's columns."""
    order = {label: number for number, label in enumerate(plan.columns)}
    labelled = [(plan.requests[batch[0]].embeds, batch) for batch in batches]
    labelled.sort(key=lambda one: order.get(one[0], -1))  # keeps the order within a column
    for label, group in groupby(labelled, key=lambda one: one[0]):
        yield label, [batch for _, batch in group]


class _Shifted:
    """A progress of which some steps are done already."""

    def __init__(self, progress: Any, done: int):
        self._progress, self._done = progress, done

    def update(self, step: int, **figures: Any) -> None:
        """Show that `step` more steps are done."""
        self._progress.update(self._done + step, **figures)
