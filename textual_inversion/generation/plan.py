"""The images of a run: all of its requests, and what varies between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from textual_inversion.generation.generate import ImageRequest


@dataclass(frozen=True)
class Axis:
    """One setting that has several values.

    Attributes:
        name: the flag's name, which is also the name in an image's facts.
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
            random or listed in a file.
    """

    requests: Sequence[ImageRequest]
    axes: tuple[Axis, ...] = ()
