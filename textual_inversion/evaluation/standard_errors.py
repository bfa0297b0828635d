"""Whether a difference of two means is more than chance: standard errors and Student's t, without Paddle."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

BETTER, WORSE, CHANCE, UNKNOWN = "better", "worse", "chance", "unknown"


@dataclass(frozen=True)
class Difference:
    """How far the mean of one run is from that of another.

    Attributes:
        value: second minus first; None where one of them was not measured.
        error: its standard error; None where it cannot be known.
        verdict: BETTER, WORSE, CHANCE or UNKNOWN.
        is_paired: image by image.
    """

    value: float | None
    error: float | None = None
    verdict: str = UNKNOWN
    is_paired: bool = False


def standard_error(values: Sequence[float]) -> float | None:
    """Of the mean of independent values; None for fewer than two. Of images of several prompts it is an upper bound."""
    if len(values) < 2:
        return None
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))


def paired(first: Sequence[float], second: Sequence[float]) -> Difference:
    """The mean difference of pairs, of which there are two at least."""
    each = [after - before for before, after in zip(first, second, strict=True)]
    mean = sum(each) / len(each)
    variance = sum((value - mean) ** 2 for value in each) / (len(each) - 1)
    return judged(mean, math.sqrt(variance / len(each)), len(each) - 1, is_paired=True)


def judged(value: float, error: float, freedom: int, *, is_paired: bool = False) -> Difference:
    """A difference with its standard error, judged with so many degrees of freedom."""
    if abs(value) <= t_quantile(freedom) * error or value == 0:
        verdict = CHANCE
    else:
        verdict = BETTER if value > 0 else WORSE
    return Difference(value, error, verdict, is_paired)


def t_quantile(freedom: int) -> float:
    """The value that Student's t exceeds once in forty times: its 97.5 % point.

    By the expansion in powers of 1/freedom of Abramowitz and Stegun, 26.7.5; exact for one and two degrees of freedom.
    """
    if freedom <= 2:
        return {1: 12.7062, 2: 4.3027}.get(freedom, math.inf)
    z, v = 1.959964, float(freedom)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / v ** (power + 1) for power, term in enumerate(terms))
