"""The images of a run: all of its requests, and what varies between them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from textual_inversion.embeddings.files import ConceptFile
from textual_inversion.generation.request import ImageRequest
from textual_inversion.settings.choices import SCHEDULERS

SIZE = "size"  # the axis of width and height together
_SIDES = ("height", "width")
# The slowest first. Columns come last: next to each other are images of one prompt and seed.
_NAMES = ("prompt", "negative_prompt", "scheduler", "guidance_scale", "num_inference_steps", "eta", *_SIDES, "seed",
          "embeds")  # fmt: skip


@dataclass(frozen=True)
class Axis:
    """One setting that has several values.

    Attributes:
        name: the flag's name, which is also the name in an image's facts; `SIZE` for height and width together.
        values: all different, in the order in which they are drawn and shown; each as the facts have it.
    """

    name: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Plan:
    """All images of a run.

    Attributes:
        requests: in the order of their numbers: request i is image i of the run.
        axes: what has several values, the slowest first. The requests are their product, unless they were drawn at
            random or come from a file, whose lines have settings of their own.
        columns: label -> the embedding files of a column of a comparison; empty where nothing is compared.
        is_random: the requests were drawn at random; the numbers of an axis then rise.
    """

    requests: Sequence[ImageRequest]
    axes: tuple[Axis, ...] = ()
    columns: Mapping[str, Sequence[ConceptFile]] = field(default_factory=dict)
    is_random: bool = False

    def texts(self, name: str) -> list[Any]:
        """The different values of a field of the requests, in the order in which they first occur."""
        return list(dict.fromkeys(getattr(request, name) for request in self.requests))

    def settled(self, image_size: Callable[[int | None, int | None], tuple[int, int]], scheduler: str) -> "Plan":
        """The plan with the base model's own height and width where a request leaves them open.

        Args:
            image_size: height and width, each of which may be None -> height and width.
            scheduler: class of the scheduler of requests that name none, for the axis.

        Raises:
            SettingsError: the model cannot make images of one of the sizes.
        """
        sizes = {(one.height, one.width) for one in self.requests}
        made = {size: dict(zip(_SIDES, image_size(*size), strict=True)) for size in sizes}
        requests = [replace(one, **made[one.height, one.width]) for one in self.requests]
        axes = axes_of(requests, scheduler, rising=self.is_random)
        return replace(self, requests=requests, axes=axes)


def axes_of(
    requests: Sequence[ImageRequest], scheduler: str | None = None, *, rising: bool = False
) -> tuple[Axis, ...]:
    """What has several values in some requests, the slowest first.

    Args:
        scheduler: class of the scheduler of requests that name none.
        rising: numbers are in rising order; else all values are in the order in which they first occur.
    """
    sizes = {(one.height, one.width) for one in requests}
    heights, widths = (set(sides) for sides in zip(*sizes, strict=True)) if sizes else (set(), set())
    is_product = len(sizes) == len(heights) * len(widths)
    names = [name for name in _NAMES if is_product or name not in _SIDES]
    names[-2:-2] = [] if is_product else [SIZE]
    found = []
    for name in names:
        values = tuple(dict.fromkeys(value_of(one, name, scheduler) for one in requests))
        if len(values) > 1:
            is_sorted = rising and all(isinstance(value, int | float) for value in values)
            found.append(Axis(name, tuple(sorted(values)) if is_sorted else values))
    return tuple(found)


def value_of(request: ImageRequest, name: str, scheduler: str | None = None) -> Any:
    """The value that a request has on an axis, as an image's facts have it.

    Args:
        name: of an axis.
        scheduler: class of the scheduler of requests that name none.
    """
    if name == SIZE:
        return f"{request.width}x{request.height}"
    if name == "scheduler":
        return SCHEDULERS.get(request.scheduler, scheduler)
    return getattr(request, name)
