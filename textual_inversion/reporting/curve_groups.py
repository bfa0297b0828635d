"""Which curves belong into one frame of a page, and what a curve is called there."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from textual_inversion.reporting.figures import Curve

BANDS, IMAGES = "eval/fixed_set_loss_bands", "eval/image_loss"
_BAND = re.compile(r"eval/fixed_set_loss_((?:little|half|much)_noise)")
_IMAGE = re.compile(r"eval/image_loss_(\d{1,6})")
_ORDER = ["eval/fixed_set_loss", BANDS, IMAGES, "train/loss", "samples/image_similarity"]
_LEAST_NOISE_FIRST = ["little_noise", "half_noise", "much_noise"]
_MOST_IMAGES = 8  # as many as there are colours


@dataclass(frozen=True)
class Place:
    """Where a curve is drawn.

    Attributes:
        frame: the name of the frame, which pages have in their languages where it is one of the program's own.
        label: of the curve in it, "" where it is alone.
        is_key: the label is one that pages have in their languages.
    """

    frame: str
    label: str = ""
    is_key: bool = False


def place_of(name: str) -> Place:
    """Where a curve is drawn: parts of the noise schedule together, images together, and what begins alike."""
    if band := _BAND.fullmatch(name):
        return Place(BANDS, band[1], is_key=True)
    if image := _IMAGE.fullmatch(name):
        return Place(IMAGES, str(int(image[1]) + 1))
    parts = name.split("/")
    return Place("/".join(parts[:2]), "/".join(parts[2:]))


def order_of(name: str) -> tuple[int, int, str]:
    """Sorts curves as pages show them: those that say most first, parts of the noise from the least to the most."""
    place = place_of(name)
    frame = _ORDER.index(place.frame) if place.frame in _ORDER else len(_ORDER)
    return frame, _LEAST_NOISE_FIRST.index(place.label) if place.frame == BANDS else 0, name


def grouped(curves: Mapping[str, Curve]) -> dict[str, list[tuple[Place, Curve]]]:
    """Frame -> its curves, in the order of `order_of`. Of many images those are taken whose loss fell least."""
    found: dict[str, list[tuple[Place, Curve]]] = {}
    for name in sorted(curves, key=order_of):
        place = place_of(name)
        found.setdefault(place.frame, []).append((place, curves[name]))
    if IMAGES in found:
        least = sorted(found[IMAGES], key=lambda one: _fall(one[1]))[:_MOST_IMAGES]
        found[IMAGES] = sorted(least, key=lambda one: int(one[0].label))
    return found


def _fall(curve: Curve) -> float:
    first, last = curve[0][1], curve[-1][1]
    return 1 - last / first if first > 0 else 0.0
