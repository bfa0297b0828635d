"""Runs side by side, as a table for the terminal and as a page."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from PIL import Image

from textual_inversion.evaluation.standard_errors import BETTER, CHANCE, UNKNOWN, WORSE, Difference
from textual_inversion.reporting.curve_groups import IMAGES, order_of, place_of
from textual_inversion.reporting.differences import different_settings, score_difference
from textual_inversion.reporting.html_page import packed, page
from textual_inversion.reporting.plots import Series, plot
from textual_inversion.reporting.run_facts import RunFacts
from textual_inversion.system.terminal_text import one_line

# How each page of this program begins.
BEGINNING = (
    b'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy"'
)
_KINDS = ("image", "text")
_MOST_PROMPTS, _MOST_CURVES = 8, 24
_LONGEST = 40  # letters of a value in the terminal
_SAYS = {
    BETTER: "better, more than chance",
    WORSE: "worse, more than chance",
    CHANCE: "within chance",
    UNKNOWN: "no standard error is known",
}


def labels_of(runs: Sequence[RunFacts]) -> list[str]:
    """A short name for each run: that of its folder, with its parent's where two would be the same."""
    names = [run.folder.resolve().name for run in runs]
    if len(set(names)) < len(names):
        names = ["/".join(run.folder.resolve().parts[-2:]) for run in runs]
    return [name if names.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(names)]


def table(runs: Sequence[RunFacts]) -> list[str]:
    """What differs, in lines for the terminal."""
    labels, rows = [_short(label) for label in labels_of(runs)], different_settings(runs)
    lines = _columns([("setting", *labels), *((name, *map(_short, values)) for name, values in rows)])
    lines += [] if rows else ["all settings are the same"]
    losses = [run.curves.get("eval/fixed_set_loss", []) for run in runs]
    if any(losses):
        shown = [f"{own[0][1]:.4f} to {own[-1][1]:.4f}" if own else "-" for own in losses]
        lines += ["", *_columns([("loss on the fixed set", *labels), ("first to last", *shown)])]
    if any(run.scores for run in runs):
        lines += ["", *_score_lines(runs, labels)]
    return lines


def _score_lines(runs: Sequence[RunFacts], labels: Sequence[str]) -> list[str]:
    found = []
    for kind in _KINDS:
        rows = [(f"{kind} similarity", "", "difference", "")]
        for label, run in zip(labels, runs, strict=True):
            own = score_difference(runs[0], run, kind) if run is not runs[0] else None
            rows.append((f"  {label}", _score_of(run, kind), *_told(own)))
        found += _columns(rows)
    return found


def _told(difference: Difference | None) -> tuple[str, str]:
    if difference is None or difference.value is None:
        return "", ""
    error = "" if difference.error is None else f" ± {difference.error:.3f}"
    return f"{difference.value:+.3f}{error}", _SAYS[difference.verdict]


def _score_of(run: RunFacts, kind: str) -> str:
    row: Mapping[str, Any] = next(iter(run.scores.values()), {}).get("concept", {})
    value, error = row.get(f"{kind}_similarity"), row.get(f"{kind}_standard_error")
    return "-" if value is None else f"{value:.3f}" + ("" if error is None else f" ± {error:.3f}")


def _short(value: Any) -> str:
    text = "-" if value is None else one_line(", ".join(map(str, value)) if isinstance(value, list) else value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2 - 1]}…{text[-_LONGEST // 2 :]}"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]


# ------------------------------------------------------------------------------------------------------------- page


def comparison(runs: Sequence[RunFacts]) -> bytes:
    """The page of runs side by side, under 3 MB."""
    labels, images = labels_of(runs), same_images(runs)
    made = iter(packed([one for _, row in images for one in row]))
    data = {
        "labels": labels,
        "words": [", ".join(run.tokens) for run in runs],
        "settings": [[name, [_json_value(v) for v in values]] for name, values in different_settings(runs)],
        "images": [[prompt, [next(made) for _ in row]] for prompt, row in images],
        "scores": {kind: [_score_row(runs[0], run, kind) for run in runs] for kind in _KINDS}
        if any(run.scores for run in runs)
        else {},
    }
    all_names = sorted({name for run in runs for name in run.curves}, key=order_of)
    # The images of one run are not those of another.
    names = [name for name in all_names if place_of(name).frame != IMAGES][:_MOST_CURVES]
    plots = "".join(_figure(name, runs, labels) for name in names)
    return page("comparison", " | ".join(labels), data, {"plots": plots, "no_plots": "" if plots else "hidden"})


def _score_row(first: RunFacts, run: RunFacts, kind: str) -> dict[str, Any]:
    own = score_difference(first, run, kind) if run is not first else None
    verdict = "" if own is None or own.value is None else own.verdict
    return {"score": _score_of(run, kind), "difference": _told(own)[0], "verdict": verdict}


def _figure(name: str, runs: Sequence[RunFacts], labels: Sequence[str]) -> str:
    drawn = plot([Series(label, run.curves.get(name, [])) for label, run in zip(labels, runs, strict=True)],
                 x_label="step")  # fmt: skip
    caption = f'<figcaption data-curve="{escape(name)}">{escape(name)}</figcaption>'
    return f"<figure>{caption}{drawn}</figure>" if drawn else ""


def same_images(runs: Sequence[RunFacts]) -> list[tuple[str, list[Image.Image]]]:
    """(prompt, an image of each run) of what all runs drew at their ends from the same prompt and seed.

    A word may have another placeholder token in each run; prompts are compared with the token left out.
    """
    shown = [_drawn(run) for run in runs]
    common = [key for key in shown[0] if all(key in own for own in shown)]
    return [(shown[0][key][0], [own[key][1] for own in shown]) for key in common][:_MOST_PROMPTS]


def _drawn(run: RunFacts) -> dict[tuple, tuple[str, Image.Image]]:
    """What was drawn last: what decides the image -> (prompt, image)."""
    found: dict[tuple, tuple[str, Image.Image]] = {}
    sampling = tuple(run.settings.get(name) for name in ("guidance_scale", "num_inference_steps", "scheduler"))
    if run.samples:
        facts = [str(sorted(one.items(), key=str)) for one in run.settings.get("sample_prompts") or []]
        for text, own, image in zip(run.prompts, facts, run.samples[-1][1], strict=False):
            found["samples", _without_words(own, run), sampling] = text, image
    if len(run.overview) == 2:
        drawn = {text for text, _ in found.values()}
        for position, (text, image) in enumerate(zip(run.overview_prompts, run.overview[1][1], strict=False)):
            if text in drawn:  # as a validation image
                continue
            found["overview", position, _without_words(text, run), sampling] = text, image
    return found


def _without_words(text: str, run: RunFacts) -> str:
    for number, token in enumerate(run.tokens):
        text = text.replace(token, f"\0{number}")
    return text


def _json_value(value: Any) -> Any:
    return value if value is None or isinstance(value, bool) else _short(value)
