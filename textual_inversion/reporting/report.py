"""`report.html` in a run's folder: everything that the run has left, on one page, which needs no network."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from textual_inversion.embeddings.file_names import FINAL, FINAL_NAME, safe_name, safetensors_names
from textual_inversion.reporting.curve_groups import Place, grouped
from textual_inversion.reporting.figures import Curve
from textual_inversion.reporting.findings import Finding, findings
from textual_inversion.reporting.html_page import evenly, packed, page
from textual_inversion.reporting.plots import Series, plot
from textual_inversion.reporting.run_facts import RunFacts, read_run
from textual_inversion.settings.flag import values_of
from textual_inversion.settings.train import TrainConfig
from textual_inversion.system import atomic
from textual_inversion.system.paths import how_to_call, in_shell

PAGE = "report.html"
_MOST_FRAMES, _MOST_PROMPTS, _MOST_TRAINING = 40, 6, 24
_MOST_WORDS = 50
_LONGEST_VALUE = 600  # letters of a setting


def write_report(folder: Path, training_images: Sequence[Image.Image] = ()) -> list[Finding]:
    """Write the page of a run from what is in its folder, and return what its figures show.

    Args:
        training_images: RGB, as the model saw them.

    Raises:
        SettingsError, EmbeddingFileError: the folder is none of a run, or its record cannot be used.
        OutputError: the page cannot be written.
    """
    run = read_run(folder)
    found = findings(run)
    atomic.write_bytes(folder / PAGE, report(run, found, training_images))
    return found


def report(run: RunFacts, found: Sequence[Finding], training_images: Sequence[Image.Image] = ()) -> bytes:
    """The page, under 3 MB."""
    data = {
        "words": run.tokens[:_MOST_WORDS],
        "about": _about(run),
        "findings": [{"level": one.level, "en": one.text("en"), "zh": one.text("zh")} for one in found],
        "scores": [_score(word, score) for word, score in list(run.scores.items())[:_MOST_WORDS]],
        "use": _use(run),
        "given": [row for row in _settings(run) if row[0] in _given(run)],
        "settings": _settings(run),
        "prompts": run.prompts[:_MOST_PROMPTS],
        **_images(run, training_images),
    }
    plots = "".join(_figure(name, group) for name, group in grouped(run.curves).items())
    places = {"plots": plots, "no_plots": "" if plots else "hidden"}
    return page("report", ", ".join(run.tokens), data, places)


def _about(run: RunFacts) -> list[list[Any]]:
    found = [("model", run.record.get("base_model")), ("steps", run.steps), ("seed", run.record.get("seed"))]
    return [[key, str(value)] for key, value in found if value is not None]


def _images(run: RunFacts, training_images: Sequence[Image.Image]) -> dict[str, Any]:
    """Before and after, the validation images of the steps, and training images, as large as the page allows."""
    frames = [(step, images[:_MOST_PROMPTS]) for step, images in evenly(run.samples, _MOST_FRAMES)]
    pairs = _pairs(run)
    training = evenly(training_images, _MOST_TRAINING)
    flat = [*(image for _, images in frames for image in images), *(one for pair in pairs for one in pair[1:])]
    made = iter(packed([*flat, *training]))
    return {
        "frames": [[step, [next(made) for _ in images]] for step, images in frames],
        "pairs": [[prompt, next(made), next(made)] for prompt, _, _ in pairs],
        "training": [next(made) for _ in training],
    }


def _pairs(run: RunFacts) -> list[tuple[str, Image.Image, Image.Image]]:
    """(prompt, before, after): of the overview, else the first and the last validation images."""
    rows, prompts = run.overview, run.overview_prompts
    if len(rows) != 2:
        rows, prompts = [run.samples[0], run.samples[-1]] if len(run.samples) > 1 else [], run.prompts
    if not rows:
        return []
    both = zip(rows[0][1], rows[1][1], strict=False)
    return [(prompts[i] if i < len(prompts) else "", *pair) for i, pair in enumerate(both)][:_MOST_PROMPTS]


# ----------------------------------------------------------------------------------------------------------- curves


def _figure(frame: str, curves: Sequence[tuple[Place, Curve]]) -> str:
    series = [Series(place.label or frame, points, is_key=place.is_key) for place, points in curves]
    drawn = plot(series, x_label="step")
    caption = f'<figcaption data-curve="{escape(frame)}">{escape(frame)}</figcaption>'
    return f"<figure>{caption}{drawn}</figure>" if drawn else ""


# ----------------------------------------------------------------------------------------------------- scores, texts


def _score(word: str, score: Mapping[str, Any]) -> dict[str, Any]:
    share, kept = score.get("share_of_the_way"), score.get("text_ratio")
    return {
        "word": word,
        **{name: _measured(score.get(name) or {}) for name in ("baseline", "concept", "ceiling")},
        "share": "" if share is None else f"{share:.0%}",
        "kept": "" if kept is None else f"{kept:.0%}",
    }


def _measured(row: Mapping[str, Any]) -> dict[str, str]:
    found = {"word": str(row.get("word", ""))}
    for kind in ("image", "text"):
        value, error = row.get(f"{kind}_similarity"), row.get(f"{kind}_standard_error")
        found[kind] = "–" if value is None else f"{value:.3f}" + ("" if error is None else f" ± {error:.3f}")
    return found


def _use(run: RunFacts) -> list[list[str]]:
    """How the words are used: (key of a text, what to write)."""
    file, word = in_shell(run.folder / FINAL_NAME), run.tokens[0]
    found = [["here", f"{how_to_call('infer.py')} --embeds {file} --prompt {in_shell(f'a photo of a {word}')}"]]
    found.append(["curve", f"{how_to_call('score.py')} --embeds {file} --curve {in_shell(run.folder / 'curve')}"])
    names = dict(zip(run.tokens, safetensors_names(FINAL, run.tokens), strict=True))
    if len(run.record.get("embedding_width") or {}) > 1:
        found.append(["xl", ""])
    else:
        found.append(["ppdiffusers", "\n".join(f"pipe.load_textual_inversion({name!r})" for name in names.values())])
    for program, form in (("a1111", "{}"), ("comfyui", "embedding:{}")):
        lines = [f"{name}  →  {safe_name(t)}.safetensors  →  {form.format(safe_name(t))}" for t, name in names.items()]
        found.append([program, "\n".join(lines[:_MOST_WORDS])])
    found.append(["convert", f"{how_to_call('convert.py')} {file} --to kohya --output {safe_name(word)}.safetensors"])
    return found


def _settings(run: RunFacts) -> list[list[Any]]:
    return [[name, _shown(value)] for name, value in sorted(run.settings.items()) if name != "sample_prompts"]


def _shown(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def _given(run: RunFacts) -> set[str]:
    """Settings whose value is not the one that the program has for real base models."""
    usual = {name: list(v) if isinstance(v, tuple) else v for name, v in values_of(TrainConfig()).items()}
    return {name for name, value in run.settings.items() if name in usual and value != usual[name]}
