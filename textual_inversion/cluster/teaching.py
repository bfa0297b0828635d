"""Teaching a list of concepts: every run is done once, and what fails is named and out of the others' way.

    Teaching(groups, …).run(pool)

A run of several concepts that cannot be done is cut into runs of one, so that the concept at fault is found and all
others are learned. What is known lies in `concepts.json`, which is replaced after each run.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from textual_inversion.cluster import lesson_run
from textual_inversion.cluster.child import Child
from textual_inversion.cluster.lesson_run import RunOrder, RunOutcome
from textual_inversion.cluster.lessons import Group, Lesson, run_folder
from textual_inversion.cluster.pool import Lost, Pool
from textual_inversion.cluster.trial import DIED, DONE, REFUSED
from textual_inversion.system import atomic
from textual_inversion.system.addresses import shown

CONCEPTS = "concepts.json"
TAUGHT, FAILED, CUT = "taught", "failed", "cut"


@dataclass
class Known:
    """What is known of a run.

    Attributes:
        status: TAUGHT; REFUSED, which is not tried again; DIED; CUT into runs of one.
        error: why it is not TAUGHT.
        figures: of the run.
    """

    status: str
    error: str | None = None
    figures: Mapping[str, float | None] | None = None


class Teaching:
    """A list of concepts under way.

    Args:
        groups: all runs.
        fixed: the training command's arguments that all runs have.
        output: where everything is written.
        child: how runs are started.
        prompt_of: the prompt of a concept's image; None: none is drawn.
        max_failures: times that a run which died is tried again.
        say: prints a line.
        known: run -> what is known of it from an earlier part.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        fixed: Sequence[str],
        output: Path,
        child: Child,
        prompt_of: Callable[[Lesson], str] | None,
        max_failures: int,
        say: Callable[[str], None],
        known: Mapping[str, Known] | None = None,
    ):
        self.groups, self.output, self.known = list(groups), output, dict(known or {})
        self._fixed, self._child, self._prompt_of = tuple(fixed), child, prompt_of
        self._max_failures, self._say, self._failures = max_failures, say, {}
        self._waiting: deque[Group] = deque()
        for group in groups:
            self._wait(group)

    def _wait(self, group: Group) -> None:
        """Put a run into the row, unless it is known how it ends."""
        known = self.known.get(group.name)
        if known is not None and known.status == CUT:
            for one in group.alone():
                self._wait(one)
        elif known is None or known.status == DIED:
            self._waiting.append(group)

    def is_done(self) -> bool:
        """Whether no run is left to do."""
        return not self._waiting

    def run(self, pool: Pool, parallel: int | None = None) -> None:
        """Do all runs that are left; raises OutputError where the list cannot be written."""
        self._child = replace(self._child, is_on_cards=pool.gpus > 0)
        busy: dict[str, Group] = {}
        while self._waiting or busy:
            while self._waiting and len(busy) < (parallel or pool.size):
                group = self._waiting.popleft()
                busy[group.name] = group
                pool.submit(group.name, lesson_run.do, self._order(group))
            name, outcome = pool.next_done()
            self._take(busy.pop(name), outcome)
            self.save()

    def _order(self, group: Group) -> RunOrder:
        folder = run_folder(self.output, group)
        return RunOrder(
            folder=str(folder),
            log=f"{folder}.log",
            arguments=(*self._fixed, *group.arguments()),
            prompts=tuple(map(self._prompt_of, group.lessons)) if self._prompt_of else (),
            child=self._child,
        )

    def _take(self, group: Group, outcome: RunOutcome | Lost) -> None:
        """Take in what came out of a run, and say it."""
        if isinstance(outcome, RunOutcome) and outcome.status == DONE:
            self.known[group.name] = Known(TAUGHT, None, outcome.figures)
            done = sum(1 for _, known in self.by_concept() if known is not None and known.status == TAUGHT)
            total = sum(len(one.lessons) for one in self.groups)
            self._say(f"{', '.join(group.tokens)}: learned; {done} of {total}")
            return
        error = shown(outcome.reason if isinstance(outcome, Lost) else outcome.error or "it failed")
        if isinstance(outcome, Lost) or outcome.status == DIED:
            self._failures[group.name] = failures = self._failures.get(group.name, 0) + 1
            if failures <= self._max_failures:
                self._say(f"{group.name} died and is tried again ({failures} of {self._max_failures}): {error}")
                self._waiting.appendleft(group)
                return
        if len(group.lessons) > 1:
            self.known[group.name] = Known(CUT, error)
            self._say(f"{group.name} cannot be learned together, and is learned one by one: {error}")
            self._waiting.extendleft(reversed(group.alone()))
            return
        status = REFUSED if isinstance(outcome, RunOutcome) and outcome.status == REFUSED else DIED
        self.known[group.name] = Known(status, error)
        self._say(f"{group.tokens[0]} is not learned: {error}")

    def by_concept(self) -> list[tuple[tuple[Group, Lesson], Known | None]]:
        """Each concept with the run that it is learned in, in the order of the list, and what is known of that."""
        found = []
        for group in self.groups:
            known = self.known.get(group.name)
            runs = group.alone() if known is not None and known.status == CUT else [group]
            found += [((run, one), self.known.get(run.name)) for run in runs for one in run.lessons]
        return found

    def save(self) -> None:
        """Replace the list of runs; raises OutputError."""
        entries: dict[str, Any] = {
            name: {"status": one.status, "error": one.error, "figures": dict(one.figures or {})}
            for name, one in self.known.items()
        }
        atomic.write_json(self.output / CONCEPTS, entries)
