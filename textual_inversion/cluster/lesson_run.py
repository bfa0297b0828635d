"""A run of a list of concepts, as a task on any machine: train, and draw an image of each concept.

It can be done again after any interruption, as a part of a trial can.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual_inversion.cluster import child as children
from textual_inversion.cluster.child import Child, Ended
from textual_inversion.cluster.records import number, read_json
from textual_inversion.cluster.trial import DIED, DONE, REFUSED
from textual_inversion.embeddings import file_names
from textual_inversion.system import atomic
from textual_inversion.system.errors import OutputError

RECORD = "taught.json"
IMAGES = "images"


@dataclass(frozen=True)
class RunOrder:
    """What a task is to do.

    Attributes:
        folder: of the run.
        log: what the commands print is added to this file.
        arguments: the training command's.
        prompts: one for each concept, if images are to be drawn; () if not.
        child: how commands are started.
    """

    folder: str
    log: str
    arguments: tuple[str, ...]
    prompts: tuple[str, ...]
    child: Child


@dataclass(frozen=True)
class RunOutcome:
    """What came out of a run.

    Attributes:
        status: DONE; REFUSED if trying again would change nothing; DIED.
        figures: loss before and after, seconds.
        error: why it is not done.
    """

    status: str
    figures: dict[str, float | None]
    error: str | None = None


def do(order: RunOrder) -> RunOutcome:
    """Learn the concepts of a run."""
    folder, log = Path(order.folder), Path(order.log)
    known = read_json(folder / RECORD, dict[str, float | None])
    if known is not None:
        return RunOutcome(DONE, known)
    try:
        children.wait_until_free(folder)
        where = ["--output_dir", order.folder, "--resume_from_checkpoint", "latest"]
        ended = children.run("train", [*order.arguments, *where], order.child, log)
        if ended.status == 0 and order.prompts:
            ended = _draw(folder, order)
        if ended.status != 0:
            return RunOutcome(REFUSED if ended.status == children.REFUSED else DIED, {}, ended.error)
        figures = _figures(folder)
        atomic.write_json(folder / RECORD, figures)
    except OutputError as error:
        return RunOutcome(REFUSED, {}, str(error))
    return RunOutcome(DONE, figures)


def _draw(folder: Path, order: RunOrder) -> Ended:
    words = ["--embeds", str(folder / file_names.FINAL_NAME), "--prompt", *order.prompts, "--num_images", "1"]
    words += ["--seed", "0", "--output_dir", str(folder / IMAGES)]
    return children.run(
        "infer", words, Child(order.child.folder, order.child.threads, place=order.child.place), Path(order.log)
    )


def _figures(folder: Path) -> dict[str, float | None]:
    run: dict[str, Any] = read_json(folder / "run.json", dict[str, Any]) or {}
    figures = run["figures"] if isinstance(run.get("figures"), dict) else {}
    losses, seconds = figures.get("fixed_set_loss"), figures.get("seconds")
    known = [number(value) for value in losses.values()] if isinstance(losses, dict) else []
    took = [number(value) for value in seconds.values()] if isinstance(seconds, dict) else []
    return {
        "loss_before": known[0] if known else None,
        "loss_after": known[-1] if known else None,
        "seconds": sum(value for value in took if value is not None),
    }
