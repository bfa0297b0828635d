"""What differs between runs: settings, and scores with what their differences mean.

A score is a mean over images, so a difference of two scores is judged against its standard error. Where both runs were
scored with the same prompts and seeds, image by image, the differences of the pairs are taken: what a seed does to both
cancels out. Else the errors of both add up. A difference means something where it is larger than what chance alone would
exceed once in twenty times (Student's t).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from textual_inversion.reporting.run_facts import RunFacts

BETTER, WORSE, CHANCE, UNKNOWN = "better", "worse", "chance", "unknown"
# Settings in which runs always differ, or which say where they are.
_NOT_COMPARED = {"output_dir", "logging_dir", "sample_prompts", "config", "resume_from_checkpoint"}
# What the images of two scores must have in common to be pairs.
_SAMPLED_WITH = ("guidance_scale", "num_inference_steps", "scheduler")


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


def different_settings(runs: Sequence[RunFacts]) -> list[tuple[str, list[Any]]]:
    """(name, value of each run) of the settings that are not the same in all runs; None where a run has none."""
    names = dict.fromkeys(name for run in runs for name in sorted(run.settings) if name not in _NOT_COMPARED)
    rows = [(name, [run.settings.get(name) for run in runs]) for name in names]
    rows += [("base_model", [run.record.get("base_model") for run in runs])]
    return sorted((name, values) for name, values in rows if any(value != values[0] for value in values))


def score_difference(first: RunFacts, second: RunFacts, kind: str) -> Difference:
    """How the score of the second run's first concept differs from the first run's.

    Args:
        kind: "image" or "text".
    """
    rows = [_first_score(run) for run in (first, second)]
    if any(row is None for row in rows):
        return Difference(None)
    is_same = _sampling(first) == _sampling(second) and first.record.get("base_model") == second.record.get(
        "base_model"
    )
    return difference(*[row["concept"] for row in rows], kind, are_pairs=is_same)


def difference(first: Mapping[str, Any], second: Mapping[str, Any], kind: str, *, are_pairs: bool = True) -> Difference:
    """The difference of two lines of scores, as `evaluation.scoring.report` has them.

    Args:
        are_pairs: image i of both was made from the same prompt and seed.
    """
    means = [row.get(f"{kind}_similarity") for row in (first, second)]
    if None in means:
        return Difference(None)
    values = [row.get(f"{kind}s") or [] for row in (first, second)]
    if are_pairs and len(values[0]) == len(values[1]) > 1:
        return paired(*values)
    errors = [row.get(f"{kind}_standard_error") for row in (first, second)]
    if None in errors or min(map(len, values)) < 2:
        return Difference(means[1] - means[0])
    return _judged(means[1] - means[0], math.hypot(*errors), sum(map(len, values)) - 2)


def paired(first: Sequence[float], second: Sequence[float]) -> Difference:
    """The mean difference of pairs, of which there are two at least."""
    each = [after - before for before, after in zip(first, second, strict=True)]
    mean = sum(each) / len(each)
    variance = sum((value - mean) ** 2 for value in each) / (len(each) - 1)
    return _judged(mean, math.sqrt(variance / len(each)), len(each) - 1, is_paired=True)


def _judged(value: float, error: float, freedom: int, *, is_paired: bool = False) -> Difference:
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


def _first_score(run: RunFacts) -> Mapping[str, Any] | None:
    score = next(iter(run.scores.values()), None)
    return score if score is not None and score.get("concept") else None


def _sampling(run: RunFacts) -> list[Any]:
    return [run.settings.get(name) for name in _SAMPLED_WITH] + [run.settings.get("learnable_property")]
