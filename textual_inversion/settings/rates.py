"""Learning rates by optimizer step, as web UIs write them: "5e-3:100, 1e-3:1000, 5e-4".

The value of the setting is a number, or such a text in one form: files, records and processes need nothing else.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from textual_inversion.settings.bounds import positive, positive_int

_TO_THE_END = "-1"  # how a last rate may be marked, too


@dataclass(frozen=True)
class Stage:
    """A learning rate, and the optimizer steps that have it.

    Attributes:
        rate: greater than 0.
        until: the number of the last step that has it, counted from 1; None: to the end.
    """

    rate: float
    until: int | None = None

    def __str__(self) -> str:
        return f"{self.rate}" if self.until is None else f"{self.rate}:{self.until}"


def learning_rate(text: str) -> float | str:
    """An argparse `type` for one rate, or for several in the form RATE:STEP, RATE:STEP, RATE.

    Returns:
        One rate as a number; several as text in a form that is the same however they were written.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > 1 and not parts[-1]:
        parts.pop()  # the comma after the last one says nothing
    found = [_stage(part, text) for part in parts]
    for number, (earlier, later) in enumerate(zip(found, found[1:], strict=False), 1):
        if earlier.until is None:
            raise argparse.ArgumentTypeError(f"{text}: rate {number} needs its last step: {earlier.rate:g}:STEP")
        if later.until is not None and later.until <= earlier.until:
            raise argparse.ArgumentTypeError(f"{text}: step {later.until} must come after step {earlier.until}")
    return found[0].rate if len(found) == 1 and found[0].until is None else text_of(found)


def _stage(part: str, text: str) -> Stage:
    rate, colon, step = (piece.strip() for piece in part.partition(":"))
    try:
        return Stage(positive(rate), positive_int(step) if colon and step != _TO_THE_END else None)
    except argparse.ArgumentTypeError as error:
        if part == text.strip() and not colon:
            raise
        raise argparse.ArgumentTypeError(f"{text}: {error}; write RATE:STEP, RATE:STEP, RATE") from None


def stages(value: float | str) -> tuple[Stage, ...]:
    """The rates of a value of `learning_rate`, in order."""
    return tuple(_stage(part, value) for part in value.split(",")) if isinstance(value, str) else (Stage(value),)


def text_of(found: Sequence[Stage]) -> str:
    """Rates as text."""
    return ", ".join(map(str, found))


def settled(value: float | str, factor: float, steps: int) -> tuple[Stage, ...]:
    """The rates of a run, times a factor; those whose time never comes are left out.

    Args:
        value: of `learning_rate`.
        steps: optimizer steps of the run.

    Raises:
        ValueError: the last rate ends before the run does.
    """
    found = [Stage(one.rate * factor, one.until) for one in stages(value)]
    if found[-1].until is not None and found[-1].until < steps:
        raise ValueError(f"{value} ends at step {found[-1].until} of {steps}")
    return (*found[:-1], Stage(found[-1].rate))
