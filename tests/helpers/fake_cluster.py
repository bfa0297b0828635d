"""Clusters without machines, and trials without training, for the tests of searches and lists."""

import hashlib
import json
import random
import time
from pathlib import Path

from textual_inversion.cluster.child import Child
from textual_inversion.cluster.search import Search, SearchPlan
from textual_inversion.cluster.space import Axis
from textual_inversion.cluster.trial import DIED, DONE, Outcome

AXES = (Axis("learning_rate", ("0.1", "0.2", "0.3")), Axis("flip_p", ("0", "1")), Axis("seed", ("4", "5")))


class LocalPool:
    """Does tasks in this process, one whenever one is asked for, in an order that a seed decides.

    Attributes:
        orders: (key, order) of all tasks that were begun.
    """

    def __init__(self, size: int = 2, seed: int = 0, task=None):
        self.size, self.gpus = size, 0
        self._random, self._task, self._waiting = random.Random(seed), task, []
        self.orders = []

    def submit(self, key, task, order):
        self.orders.append((key, order))
        self._waiting.append((key, self._task or task, order))

    def next_done(self):
        key, task, order = self._waiting.pop(self._random.randrange(len(self._waiting)))
        return key, task(order)


def search_of(folder: Path, **changes) -> Search:
    """A search whose trials are those of AXES, and lines that nobody hears."""
    known = dict(space=AXES, method="grid", num_trials=12, metrics=("fixed_set_loss",), seed=0, lag=2, rungs=(),
                 factor=3, fixed=(), tokens=("<a>",), max_failures=2)  # fmt: skip
    own = {name: changes.pop(name) for name in ("trials", "task") if name in changes}
    folder.mkdir(parents=True, exist_ok=True)
    return Search(SearchPlan(**(known | changes)), folder, Child("."), lambda line: None, **own)


def loss_after(arguments, steps: int) -> float:
    """The loss of a trial, as a function of its flags and of what it was trained for."""
    return state_after("".join(arguments), 0, steps)[1]


def state_after(state: str, first: int, steps: int) -> tuple[str, float]:
    """The state of a training whose every step depends on the one before, and its loss."""
    for step in range(first, steps):
        state = hashlib.sha256(f"{state}{step}".encode()).hexdigest()
    return state, int(hashlib.sha256(state.encode()).hexdigest()[:8], 16) / 2**32


def measured(part) -> Outcome:
    """A part of a trial at once, without a file."""
    steps = part.until or 99
    return Outcome(DONE, {"fixed_set_loss": loss_after(part.arguments, steps), "steps": steps})


def trained_slowly(part) -> Outcome:
    """A part of a trial with steps that take time, a checkpoint every ten, and a note of each step that was done.

    It dies once in a while, as its folder and the step decide.
    """
    folder, last = Path(part.folder), part.until or 99
    folder.mkdir(parents=True, exist_ok=True)
    record, checkpoint = folder / f"measured-{part.until}", folder / "checkpoint"
    if record.exists():
        return Outcome(DONE, json.loads(record.read_text()))
    state, first = "".join(part.arguments), 0
    if checkpoint.exists():
        state, first = json.loads(checkpoint.read_text())
    for step in range(first, last):
        time.sleep(0.06)
        state, _ = state_after(state, step, step + 1)
        if (step + 1) % 10 == 0 or step + 1 == last:
            with (folder / "steps.log").open("a") as log:
                log.write(f"{step + 1}\n")
            _put(checkpoint, [state, step + 1])
            if step + 1 == 60 and int(folder.name) % 4 == 1 and not (folder / "died").exists():
                (folder / "died").touch()
                return Outcome(DIED, {}, "ended by signal 9")
    figures = {"fixed_set_loss": state_after(state, 0, 0)[1], "steps": last}
    _put(record, figures)
    return Outcome(DONE, figures)


def _put(path: Path, value) -> None:
    beside = path.with_name(f".{path.name}")
    beside.write_text(json.dumps(value))
    beside.replace(path)
