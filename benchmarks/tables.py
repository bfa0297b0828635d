"""Figures as Markdown: tables, targets, and the section that a benchmark prints.

Nothing here measures anything or imports paddle.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks import machine

MISSING = "–"


@dataclass(frozen=True)
class Target:
    """What a figure should reach.

    Attributes:
        what: description, with the unit.
        value: as measured; None if it was not.
        bound: the largest value that is good enough or, where `at_least`, the smallest.
    """

    what: str
    value: float | None
    bound: float
    at_least: bool = False

    @property
    def is_met(self) -> bool | None:
        """Whether the value keeps the bound; None where there is no value."""
        if self.value is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; its first column is text, the others are aligned to the right. None is shown as a dash."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def targets_table(targets: Sequence[Target]) -> str:
    """Targets, measured values, and whether they suffice; empty if there is no target."""
    if not targets:
        return ""
    verdicts = {True: "met", False: "not met", None: "not measured"}
    rows = [
        (t.what, f"{'≥' if t.at_least else '≤'} {number(t.bound)}", number(t.value), verdicts[t.is_met])
        for t in targets
    ]
    return table(("target", "wanted", "measured", ""), rows)


def section(title: str, *parts: str) -> str:
    """The whole output of a benchmark: title, how and where it was measured, and its tables."""
    head = [f"## {title}", f"`{machine.shown_command()}`", machine.line()]
    return "\n\n".join([*head, *(part for part in parts if part)])


def number(value: float | None, digits: int = 3) -> str:
    """A figure with so many significant digits, never as a power of ten from 0.001 to a million; a dash for None."""
    if value is None or value == 0:
        return MISSING if value is None else "0"
    if 1e-3 <= abs(value) < 1e6:
        whole = len(str(int(abs(value))))
        places = max(0, digits - whole) if abs(value) >= 1 else digits
        return f"{value:.{places}f}"
    return f"{value:.{digits - 1}e}"


def seconds(value: float | None) -> str:
    """A time in the unit that reads best."""
    if value is None:
        return MISSING
    return f"{number(1000 * value)} ms" if value < 0.1 else f"{number(value)} s"


def gigabytes(value: float | None) -> str:
    """Bytes as GB, 10**9 of them; None as a dash."""
    return MISSING if value is None else f"{value / 1e9:.2f} GB"


def byte_count(value: float) -> str:
    """Bytes in the unit that reads best, in powers of 1000."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{number(value / size)} {unit}"
    return f"{value:.0f} B"


def ratio(value: float | None, base: float | None) -> float | None:
    """value / base; None where either is missing or the base is zero."""
    return None if value is None or not base else value / base


def times(value: float | None) -> str:
    """A ratio, as `1.04 ×`; None as a dash."""
    return MISSING if value is None else f"{number(value)} ×"


def median(values: Sequence[float]) -> float | None:
    """The median; None where nothing was measured."""
    return statistics.median(values) if values else None


def spread(values: Sequence[float]) -> str:
    """The quickest and the slowest of several times."""
    return f"{seconds(min(values))} – {seconds(max(values))}" if values else MISSING


def _cell(value: object) -> str:
    text = MISSING if value is None else value if isinstance(value, str) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
