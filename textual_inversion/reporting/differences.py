"""What differs between runs: settings, and scores with what their differences mean.

A score is a mean over images, so a difference of two scores is judged against its standard error. Where both runs were
scored with the same prompts and seeds, image by image, the differences of the pairs are taken: what a seed does to both
cancels out. Else the errors of both add up. A difference means something where it is larger than what chance alone
would exceed once in twenty times (Student's t).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from textual_inversion.evaluation.standard_errors import Difference, judged, paired
from textual_inversion.reporting.run_facts import RunFacts

# Settings in which runs always differ, or which say where they are.
_NOT_COMPARED = {"output_dir", "logging_dir", "sample_prompts", "config", "resume_from_checkpoint"}
# What the images of two scores must have in common to be pairs.
_SAMPLED_WITH = ("guidance_scale", "num_inference_steps", "scheduler")


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
    return judged(means[1] - means[0], math.hypot(*errors), sum(map(len, values)) - 2)


def _first_score(run: RunFacts) -> Mapping[str, Any] | None:
    score = next(iter(run.scores.values()), None)
    return score if score is not None and score.get("concept") else None


def _sampling(run: RunFacts) -> list[Any]:
    return [run.settings.get(name) for name in _SAMPLED_WITH] + [run.settings.get("learnable_property")]
