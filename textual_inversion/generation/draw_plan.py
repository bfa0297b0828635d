"""The images of a plan, or of one process's share of it."""

from collections.abc import Iterator, Sequence
from typing import Any

from PIL import Image

from textual_inversion.generation.generate import batches, generate_batches
from textual_inversion.generation.plan import Plan
from textual_inversion.models.base_model import BaseModel


def draw(
    model: BaseModel, plan: Plan, batches: Sequence[Sequence[int]], *, pipeline: Any, progress: Any = None
) -> Iterator[tuple[int, Image.Image]]:
    """Draw the images of some of a plan's batches.

    Args:
        batches: each with the positions of its images, as `plan_batches` cuts them from the whole plan: an image's
            bytes depend on which images are computed with it.
        pipeline: of the model, with the scheduler of requests that name none.
        progress: its `update` is told how many denoising steps of these batches are done.

    Yields:
        (position in the plan, RGB image), as `generate.generate_batches`.
    """
    return generate_batches(model, plan.requests, batches, pipeline=pipeline, progress=progress)


def plan_batches(plan: Plan, batch_size: int) -> list[list[int]]:
    """Batches of images with equal settings, cut from the whole plan, in the order of their first images."""
    return sorted(batches(plan.requests, batch_size))
