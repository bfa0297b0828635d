"""Values of a setting that may be written as a range: START:STOP:COUNT, evenly spaced, with both ends."""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from textual_inversion.settings.bounds import Parse, count

_MOST_VALUES = 1_000_000
_FORM = "must be a value or START:STOP:COUNT, such as {}, not {}"
_counted = count(1, _MOST_VALUES)


@dataclass(frozen=True)
class Range:
    """Evenly spaced values.

    Attributes:
        text: as it was written.
        values: all different, rising.
    """

    text: str
    values: tuple[Any, ...]

    def __str__(self) -> str:
        return self.text


def ranged(parse: Parse, example: str) -> Parse:
    """An argparse `type` for one value of another type, or a `Range` of such values.

    Args:
        parse: takes whole numbers or floats. A range of whole numbers holds whole numbers only.
        example: a range, for messages.
    """

    def parse_range(text: str) -> Any:
        if ":" not in text:
            return parse(text)
        first, last, number = _parts(text, example)
        low, high, wanted = parse(first), parse(last), _counted(number)
        values = _between(low, high, wanted, text)
        _check_second(parse, values, text)
        return Range(text, values)

    return parse_range


def image_sizes(parse: Parse) -> Parse:
    """An argparse `type` for WIDTHxHEIGHT, the side of a square, or a `Range` of them: (width, height).

    Args:
        parse: the type of a side, in pixels.
    """

    def parse_size(text: str) -> tuple[int, int]:
        sides = text.lower().split("x")
        if len(sides) > 2:
            raise argparse.ArgumentTypeError(f"must be WIDTHxHEIGHT, such as 768x512, not {text}")
        return parse(sides[0]), parse(sides[-1])

    def parse_sizes(text: str) -> Any:
        if ":" not in text:
            return parse_size(text)
        first, last, number = _parts(text, "512x512:768x512:3")
        low, high, wanted = parse_size(first), parse_size(last), _counted(number)
        sides = [_between(a, b, wanted, text, same=low != high) for a, b in zip(low, high, strict=True)]
        values = tuple(zip(*sides, strict=True))
        for own in sides:
            _check_second(parse, own, text)
        return Range(text, values)

    return parse_sizes


def values_in(items: Iterable[Any]) -> list[Any]:
    """All values that were given, those of ranges in their place, each once."""
    found = [value for item in items for value in (item.values if isinstance(item, Range) else (item,))]
    return list(dict.fromkeys(found))


def ends_of(items: Iterable[Any]) -> tuple[Any, Any] | None:
    """The lowest and the highest value where a range is among them, between which any may be drawn; else None."""
    items = list(items)
    if not any(isinstance(item, Range) for item in items):
        return None
    values = values_in(items)
    return min(values), max(values)


def _parts(text: str, example: str) -> list[str]:
    parts = text.split(":")
    if len(parts) != 3 or not all(parts):
        raise argparse.ArgumentTypeError(_FORM.format(example, text))
    return parts


def _check_second(parse: Parse, values: tuple[Any, ...], text: str) -> None:
    """Refuse a range whose ends are multiples of 8, say, but not what lies between them."""
    try:
        parse(str(values[min(1, len(values) - 1)]))
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from None


def _between(low: Any, high: Any, wanted: int, text: str, *, same: bool = False) -> tuple[Any, ...]:
    """`wanted` values from `low` to `high`; `same`: they may all be equal."""
    if low > high:
        raise argparse.ArgumentTypeError(f"{text} runs backwards; begin with the lower end")
    if low == high and (same or wanted == 1):
        return (low,) * wanted
    if low == high:
        raise argparse.ArgumentTypeError(f"{text} gives the same value {wanted} times; write {low}")
    if wanted == 1:
        raise argparse.ArgumentTypeError(f"{text} has two ends and only one value; count at least 2")
    if isinstance(low, int):
        return _whole(low, high, wanted, text)
    inner = (float(f"{low + (high - low) * i / (wanted - 1):.12g}") for i in range(1, wanted - 1))
    values = (low, *inner, high)
    if len(set(values)) < wanted:
        raise argparse.ArgumentTypeError(f"{text} gives the same values more than once; count fewer")
    return values


def _whole(low: int, high: int, wanted: int, text: str) -> tuple[int, ...]:
    span, steps = high - low, wanted - 1
    if span % steps == 0:
        return tuple(range(low, high + 1, span // steps))
    near = next(n for away in range(1, steps) for n in (steps - away, steps + away) if span % n == 0 and n <= span)
    what = "the same values more than once" if steps > span else "fractions"
    raise argparse.ArgumentTypeError(f"{text} gives {what}; count {near + 1}, or move an end")
