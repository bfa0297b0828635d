"""What makes a trial better: the metrics of a search, where they are measured, and which of several trials are best."""

from collections.abc import Mapping, Sequence
from typing import Any

from textual_inversion.cluster.records import number
from textual_inversion.settings.choices import METRICS

# Metrics that `score.py` measures, on images; the others come from the run itself.
OF_IMAGES = ("score", "share_of_the_way", "text_ratio", "image_similarity", "text_similarity")
# Flags that change what the loss on the fixed set measures: losses of different ones are no measure of one thing.
_DECIDE_LOSS = (
    *(
        "seed",
        "eval_samples",
        "train_data_dir",
        "pretrained_model_name_or_path",
        "vae",
        "resolution",
        "height",
        "width",
    ),
    *("resize_mode", "center_crop", "mask_dir", "alpha_mask", "unmasked_weight", "min_timestep", "max_timestep"),
    *("no_captions", "template_file", "language", "max_token_length", "caption_prefix", "caption_suffix"),
)

Figures = dict[str, float | None]


def is_more_better(metric: str) -> bool:
    """Whether more of a metric is better."""
    return METRICS[metric][1]


def wants_images(metrics: Sequence[str]) -> bool:
    """Whether one of the metrics is measured on images."""
    return any(metric in OF_IMAGES for metric in metrics)


def spoils_loss(names: Sequence[str]) -> str | None:
    """The first of some flags that makes losses on the fixed set no measure of one thing; None."""
    return next((name for name in names if name in _DECIDE_LOSS), None)


def of_scores(scores: Sequence[Mapping[str, Any]]) -> Figures:
    """The metrics of images: the mean over concepts of what `score.py` reports; None where one is not defined.

    Args:
        scores: the reports, one for each concept.
    """
    rows = [_of_score(score) for score in scores]
    found: Figures = {}
    for name in OF_IMAGES:
        values = [row[name] for row in rows]
        found[name] = None if None in values or not values else sum(values) / len(values)
    return found


def _of_score(score: Mapping[str, Any]) -> Figures:
    share, ratio = number(score.get("share_of_the_way")), number(score.get("text_ratio"))
    concept = score["concept"] if isinstance(score.get("concept"), dict) else {}
    return {
        "score": None if share is None or ratio is None else share * min(1.0, ratio),
        "share_of_the_way": share,
        "text_ratio": ratio,
        "image_similarity": number(concept.get("image_similarity")),
        "text_similarity": number(concept.get("text_similarity")),
    }


def goodness(figures: Mapping[str, float | None], metrics: Sequence[str]) -> tuple[float, ...] | None:
    """The metrics of a trial with the sign by which more is better; None where one is missing."""
    values = [figures.get(metric) for metric in metrics]
    if any(value is None for value in values):
        return None
    return tuple(value if is_more_better(metric) else -value for metric, value in zip(metrics, values, strict=True))


def pareto_front(goodnesses: Mapping[int, tuple[float, ...]]) -> list[int]:
    """The trials that no other beats: none is as good in everything and better in something. By their numbers."""
    return [
        one
        for one, own in sorted(goodnesses.items())
        if not any(
            all(a >= b for a, b in zip(other, own, strict=True)) and other != own for other in goodnesses.values()
        )
    ]
