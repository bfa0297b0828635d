"""The images of a run: all of its requests, and what varies between them."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from textual_inversion.embeddings.files import ConceptFile
from textual_inversion.generation import labels
from textual_inversion.generation.request import ImageRequest
from textual_inversion.generation.start_image import StartImage
from textual_inversion.settings.choices import SCHEDULERS

SIZE = "size"  # the axis of width and height together
_SIDES = ("height", "width")
_STARTS = ("image", "strength")
# The slowest first. Columns come last: next to each other are images of one prompt and seed.
_NAMES = ("prompt", "negative_prompt", "scheduler", "guidance_scale", "num_inference_steps", "eta", *_SIDES, "seed",
          "embeds", *_STARTS)  # fmt: skip


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

    def from_images(self, starts: Sequence[StartImage | None]) -> "Plan":
        """The plan with each of its images made from each start image; raises SettingsError."""
        requests = [replace(one, start=start) for one in self.requests for start in starts]
        return replace(self, requests=requests, axes=axes_of(requests, rising=self.is_random))

    def settled(self, size_of: Callable[[ImageRequest], tuple[int, int]], scheduler: str) -> "Plan":
        """The plan with heights and widths where requests leave them open.

        Args:
            size_of: a request -> height and width of its image.
            scheduler: class of the scheduler of requests that name none, for the axis.

        Raises:
            SettingsError: the model cannot make images of one of the sizes.
        """
        alike = {(one.height, one.width, one.start): one for one in self.requests}
        made = {key: dict(zip(_SIDES, size_of(one), strict=True)) for key, one in alike.items()}
        requests = [replace(one, **made[one.height, one.width, one.start]) for one in self.requests]
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
    return _axes(sizes, lambda name: (value_of(one, name, scheduler) for one in requests), rising=rising)


def axes_in(entries: Sequence[Mapping[str, Any]]) -> tuple[Axis, ...]:
    """What has several values in images, by their entries in the manifest; see `axes_of`."""
    sizes = {(one.get("height"), one.get("width")) for one in entries}
    return _axes(sizes, lambda name: (labels.value_of(one, name) for one in entries))


def _axes(
    sizes: Collection[tuple[Any, Any]], values_of: Callable[[str], Iterable[Any]], *, rising: bool = False
) -> tuple[Axis, ...]:
    """See `axes_of`.

    Args:
        sizes: all (height, width).
        values_of: name of an axis -> its value in each image.
    """
    heights, widths = (set(sides) for sides in zip(*sizes, strict=True)) if sizes else (set(), set())
    is_product = len(sizes) == len(heights) * len(widths)
    names = [name for name in _NAMES if is_product or name not in _SIDES]
    if not is_product:
        names.insert(names.index("seed"), SIZE)
    found = []
    for name in names:
        values = tuple(dict.fromkeys(values_of(name)))
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
    if name in _STARTS:
        return None if request.start is None else request.start.facts[name]
    return getattr(request, name)
