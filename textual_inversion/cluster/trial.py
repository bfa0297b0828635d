"""A part of a trial, as a task on any machine of the cluster: train to a step, measure there, and say what came out.

It can be done again after any interruption: training goes on from the newest checkpoint, and what was measured is read
from the trial's folder.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual_inversion.cluster import child as children
from textual_inversion.cluster import metrics
from textual_inversion.cluster.child import Child, Ended
from textual_inversion.cluster.metrics import Figures
from textual_inversion.cluster.records import number, read_json
from textual_inversion.embeddings import file_names
from textual_inversion.system import atomic
from textual_inversion.system.errors import CheckpointError, OutputError
from textual_inversion.training import checkpoints

DONE, REFUSED, DIED = "done", "refused", "died"
# Starts of a training that is to be stopped at a step; each that is stopped too early does one step more.
_MOST_STARTS = 4


@dataclass(frozen=True)
class Part:
    """What a task is to do.

    Attributes:
        folder: of the trial's run.
        log: what the commands print is added to this file.
        arguments: the training command's.
        until: the optimizer step at which the trial is measured, and training stopped; None: the run's end.
        tokens: the placeholder tokens, if images are to be scored; () if not.
        scoring: further arguments of `score.py`.
        child: how commands are started.
    """

    folder: str
    log: str
    arguments: tuple[str, ...]
    until: int | None
    tokens: tuple[str, ...]
    scoring: tuple[str, ...]
    child: Child


@dataclass(frozen=True)
class Outcome:
    """What came out of a part.

    Attributes:
        status: DONE; REFUSED if trying again would change nothing; DIED.
        figures: the metrics.
        error: why it is not done.
    """

    status: str
    figures: Figures
    error: str | None = None


def do(part: Part) -> Outcome:
    """Do a part of a trial."""
    folder = Path(part.folder)
    known = _recorded(folder, part)
    if known is not None:
        return Outcome(DONE, known)
    try:
        children.wait_until_free(folder)
        ended = _train(folder, part)
        if ended is not None:
            return _failed(ended)
        figures: Figures = {"fixed_set_loss": _loss(folder, part.until), "steps": _steps(folder, part.until)}
        if part.tokens:
            scores, ended = _score(folder, part)
            if ended is not None:
                return _failed(ended)
            figures |= metrics.of_scores(scores)
        atomic.write_json(folder / _record_name(part), figures)
    except OutputError as error:
        return Outcome(REFUSED, {}, str(error))
    return Outcome(DONE, figures)


def _failed(ended: Ended) -> Outcome:
    return Outcome(REFUSED if ended.status == children.REFUSED else DIED, {}, ended.error)


def embedding_name(until: int | None) -> str:
    """The embedding file of a trial that was measured at a step; None: at its end."""
    return file_names.FINAL_NAME if until is None else f"{file_names.of_step(until)}.pdparams"


def _record_name(part: Part) -> str:
    return f"measured-{'end' if part.until is None else part.until}.json"


def _recorded(folder: Path, part: Part) -> Figures | None:
    """The figures of a part that was done before; None where it was not, or other ones are wanted now."""
    found = read_json(folder / _record_name(part), dict[str, float | None])
    return None if found is None or (part.tokens and "score" not in found) else found


# --------------------------------------------------------------------------------------------------------- training


def _train(folder: Path, part: Part) -> Ended | None:
    """Train to the step of a part; returns how the command ended where that failed."""
    arguments = [*part.arguments, "--output_dir", part.folder, "--resume_from_checkpoint", "latest"]
    if part.until is None:
        if _has_ended(folder):
            return None
        ended = children.run("train", arguments, part.child, Path(part.log))
        return None if ended.status == 0 else ended
    saved = folder / embedding_name(part.until)
    for _ in range(_MOST_STARTS):
        if saved.exists() and _loss(folder, part.until) is not None:
            return None
        before = _changed(saved)
        enough = lambda: _changed(saved) != before  # noqa: B023, E731 - called while this round lasts
        ended = children.run("train", arguments, part.child, Path(part.log), is_enough=enough)
        if ended.status != 0 and not enough():
            return ended
    return Ended(1, f"the loss of step {part.until} could not be recorded; see {part.log}")


def _changed(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _has_ended(folder: Path) -> bool:
    """Whether a run wrote all its results: the figures of its vectors are the last that run.json gets."""
    return "rows" in _run_record(folder).get("figures", {}) and _loss(folder, None) is not None


def _run_record(folder: Path) -> dict[str, Any]:
    found = read_json(folder / "run.json", dict[str, Any]) or {}
    return found if isinstance(found.get("figures"), dict) and isinstance(found.get("settings"), dict) else {}


def _steps(folder: Path, until: int | None) -> float | None:
    """The optimizer steps up to which a part trained."""
    return until if until is not None else number(_run_record(folder).get("settings", {}).get("max_train_steps"))


def _loss(folder: Path, until: int | None) -> float | None:
    """The loss on the fixed set at a step, or at the end; None where no record holds it yet."""
    step = _steps(folder, until)
    if step is None:
        return None
    found = _loss_in(_run_record(folder).get("figures", {}), step)
    if found is not None or until is None:
        return found
    try:
        newest = checkpoints.latest(folder, lambda note: None)
    except CheckpointError:
        return None
    return None if newest is None else _loss_in(newest.facts["figures"], step)


def _loss_in(figures: dict[str, Any], step: float) -> float | None:
    losses = figures.get("fixed_set_loss")
    return number(losses.get(str(int(step)))) if isinstance(losses, dict) else None


# ---------------------------------------------------------------------------------------------------------- scoring


def _score(folder: Path, part: Part) -> tuple[list[dict[str, Any]], Ended | None]:
    """The reports of `score.py` for every concept, and how it ended where it failed."""
    reports = []
    label = "end" if part.until is None else part.until
    for place, token in enumerate(part.tokens):
        path = folder / f"score-{label}-{place}.json"
        report = read_json(path, dict[str, Any])
        if report is None:
            arguments = ["--embeds", str(folder / embedding_name(part.until)), "--placeholder_token", token]
            arguments += ["--output", str(path), *part.scoring]
            ended = children.run("score", arguments, part.child, Path(part.log))
            report = read_json(path, dict[str, Any])
            if ended.status != 0 or report is None:
                return [], ended if ended.status != 0 else Ended(1, f"{path} was not written; see {part.log}")
        reports.append(report)
    return reports, None
