"""A search: which trial is trained next and how far, from what is known so far, until nothing that counts is left.

    Search(plan, folder, say).run(pool)

What is known lies in `trials.json`, which is replaced after each result, so that a search whose command was killed goes
on from there. Everything that decides its outcome is a function of the plan and of results, never of time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from textual_inversion.cluster import metrics, trial
from textual_inversion.cluster.child import Child
from textual_inversion.cluster.halving import FAILED, Ladder
from textual_inversion.cluster.metrics import Figures
from textual_inversion.cluster.pool import Lost, Pool
from textual_inversion.cluster.space import Finished, Parameters, Space, arguments, trial_parameters
from textual_inversion.cluster.trial import DONE, REFUSED, Outcome, Part
from textual_inversion.settings.choices import TPE
from textual_inversion.system import atomic
from textual_inversion.system.addresses import shown

TRIALS = "trials.json"
_RUNS = "trials"
_END = "end"  # the name of the last rung in records


@dataclass(frozen=True)
class SearchPlan:
    """All that decides a search.

    Attributes:
        space: what differs between trials.
        method: one of `choices.SEARCH_METHODS`.
        num_trials: how many there are.
        metrics: what makes a trial better; the first one chooses among equals.
        seed: of the trials that are drawn.
        lag: trials that were under way together when the search began. TPE chooses trial n by the results of all up to
            n - lag, and of no others, so that it does not matter which one ends first.
        rungs: the steps at which trials are compared, the last one being the end; () if all are trained to their end.
        factor: one of so many trials of a rung goes on.
        fixed: the training command's arguments that all trials have.
        tokens: their placeholder tokens.
        scoring: further arguments of `score.py`.
        max_failures: times that a trial which died is tried again.
    """

    space: Space
    method: str
    num_trials: int
    metrics: tuple[str, ...]
    seed: int
    lag: int
    rungs: tuple[int, ...]
    factor: int
    fixed: tuple[str, ...]
    tokens: tuple[str, ...]
    scoring: tuple[str, ...] = ()
    max_failures: int = 3

    @property
    def labels(self) -> list[int | None]:
        """The steps of the rungs as trials are told them: None for the end."""
        return [*self.rungs[:-1], None]


@dataclass
class Trial:
    """A trial, and what is known of it.

    Attributes:
        number: counted from 0.
        parameters: flag -> value.
        results: for each rung that it has passed, its figures.
        failures: times that it died.
        refused: why it cannot be trained; trying again changes nothing.
        error: why it died last.
    """

    number: int
    parameters: Parameters
    results: dict[int, Figures] = field(default_factory=dict)
    failures: int = 0
    refused: str | None = None
    error: str | None = None

    def last(self) -> Figures:
        """The figures of the highest rung that it has passed; {}."""
        return self.results[max(self.results)] if self.results else {}


class Search:
    """A search under way.

    Args:
        folder: where everything is written.
        child: how trials are started.
        say: prints a line.
        trials: what is known of an earlier part of the search.
        task: does a part of a trial.
    """

    def __init__(
        self,
        plan: SearchPlan,
        folder: Path,
        child: Child,
        say: Callable[[str], None],
        trials: Sequence[Trial] = (),
        task: Callable[[Part], Outcome] = trial.do,
    ):
        self.plan, self.folder, self._child, self._say, self._task = plan, folder, child, say, task
        self.trials = [replace(one, failures=0) if one.refused is None else one for one in trials]
        self._busy: dict[int, int] = {}  # trial -> rung that it is on its way to

    def is_done(self) -> bool:
        """Whether nothing that counts is left to do."""
        return self.ladder().is_done()

    def run(self, pool: Pool, parallel: int | None = None) -> None:
        """Train and measure until nothing that counts is left.

        Args:
            parallel: tasks at the same time; None: as many as the pool has room for.

        Raises:
            OutputError: the list of trials cannot be written.
        """
        most = parallel or pool.size
        self._child = replace(self._child, is_on_cards=pool.gpus > 0)
        while not self.is_done():
            while len(self._busy) < most and (work := self._next_work()) is not None:
                number, rung = work
                self._busy[number] = rung
                pool.submit(number, self._task, self._part(number, rung))
            if not self._busy:
                break
            number, outcome = pool.next_done()
            self._take(number, self._busy.pop(number), outcome)
            self.save()

    def _next_work(self) -> tuple[int, int] | None:
        begun = len(self.trials)
        parameters = self._parameters(begun) if begun < self.plan.num_trials else None
        work = self.ladder().next_work(self._busy, begun, may_begin=parameters is not None)
        if work is not None and work[0] == begun:
            self.trials.append(Trial(begun, parameters))
            self.save()  # so that an interrupted search knows what was begun
        return work

    def _parameters(self, number: int) -> Parameters | None:
        """What a trial gets; None where it waits for results."""
        plan, finished = self.plan, []
        if plan.method == TPE:
            counted = self.trials[: max(0, number - plan.lag + 1)]
            first = self.ladder().values[0]
            if len(counted) < number - plan.lag + 1 or any(one.number not in first for one in counted):
                return None
            for one in counted:
                values = [one.results[0].get(metric) for metric in plan.metrics] if 0 in one.results else [None]
                if None not in values:
                    finished.append(Finished(one.parameters, tuple(values)))
        is_better = [metrics.is_more_better(metric) for metric in plan.metrics]
        return trial_parameters(plan.space, plan.method, plan.seed, number, finished, is_better, plan.num_trials)

    def ladder(self) -> Ladder:
        """The rungs with what is known: the first metric's values, more being better."""
        plan, rungs = self.plan, range(len(self.plan.labels))
        values: list[dict[int, float]] = [{} for _ in rungs]
        for one in self.trials:
            for rung in rungs:
                if rung in one.results:
                    good = metrics.goodness(one.results[rung], plan.metrics)
                    values[rung][one.number] = FAILED if good is None else good[0]
                elif self.is_given_up(one):
                    values[rung][one.number] = FAILED
        return Ladder(plan.num_trials, plan.rungs or (0,), plan.factor, values)

    def is_given_up(self, one: Trial) -> bool:
        """Whether a trial is not tried any more."""
        return one.refused is not None or one.failures > self.plan.max_failures

    def _part(self, number: int, rung: int) -> Part:
        scored = metrics.wants_images(self.plan.metrics)
        return Part(
            folder=str(self.run_folder(number)),
            log=str(self.folder / _RUNS / f"{number:03d}.log"),
            arguments=tuple(self.training_arguments(number)),
            until=self.plan.labels[rung],
            tokens=self.plan.tokens if scored else (),
            scoring=self.plan.scoring,
            child=self._child,
        )

    def run_folder(self, number: int) -> Path:
        """The folder of a trial, which is that of an ordinary run."""
        return self.folder / _RUNS / f"{number:03d}"

    def training_arguments(self, number: int) -> list[str]:
        """The training command's arguments of a trial, without those about its folder."""
        return [*self.plan.fixed, *arguments(self.trials[number].parameters)]

    def repeated_by(self, number: int) -> list[str]:
        """The training command's arguments that train a trial again, to its last byte: by as many threads."""
        threads = max(1, self._child.threads // self._child.processes)
        return [*self.training_arguments(number), f"--num_threads={threads}"]

    def _take(self, number: int, rung: int, outcome: Outcome | Lost) -> None:
        """Take in what came out of a part of a trial, and say it."""
        one, label = self.trials[number], self.plan.labels[rung]
        words = " ".join(arguments(one.parameters))
        name = f"trial {number} ({words})" + ("" if label is None else f" after {label} steps")
        if isinstance(outcome, Outcome) and outcome.status == DONE:
            one.results[rung], one.error = outcome.figures, None
            self._say(f"{name}: {figures_text(outcome.figures, self.plan.metrics)}; {self._standing()}")
        elif isinstance(outcome, Outcome) and outcome.status == REFUSED:
            one.refused = shown(outcome.error or "refused")
            self._say(f"{name} cannot be trained, and is not tried again: {one.refused}")
        else:
            one.failures += 1
            error = outcome.reason if isinstance(outcome, Lost) else outcome.error
            one.error = None if error is None else shown(error)
            again = "given up" if self.is_given_up(one) else f"tried again ({one.failures} of {self.plan.max_failures})"
            self._say(f"{name} died and is {again}: {one.error}")

    def _standing(self) -> str:
        done = sum(1 for one in self.trials if one.results or self.is_given_up(one))
        best = self.ladder().best()
        return f"{done} of {self.plan.num_trials} known" + ("" if best is None else f", best so far: trial {best}")

    def front(self) -> list[int]:
        """The trials that no other beats in all metrics, among those that have come furthest."""
        ladder = self.ladder()
        top = max((r for r in range(len(self.plan.labels)) if self._with_results(ladder, r)), default=0)
        return metrics.pareto_front(self._with_results(ladder, top))

    def _with_results(self, ladder: Ladder, rung: int) -> dict[int, tuple[float, ...]]:
        found = {}
        for number in ladder.members(rung):
            if number < len(self.trials) and rung in self.trials[number].results:
                good = metrics.goodness(self.trials[number].results[rung], self.plan.metrics)
                found |= {} if good is None else {number: good}
        return found

    def save(self) -> None:
        """Replace the list of trials; raises OutputError."""
        atomic.write_json(self.folder / TRIALS, [self._entry(one) for one in self.trials])

    def _entry(self, one: Trial) -> dict[str, Any]:
        labels = [_END if label is None else str(label) for label in self.plan.labels]
        return {
            "number": one.number,
            "folder": f"{_RUNS}/{one.number:03d}",
            "parameters": {name: list(v) if isinstance(v, tuple) else v for name, v in one.parameters.items()},
            "status": self.status(one),
            "results": {labels[rung]: figures for rung, figures in sorted(one.results.items())},
            "failures": one.failures,
            "error": one.refused or one.error,
        }

    def status(self, one: Trial) -> str:
        """What has become of a trial, in a word or two."""
        if one.refused is not None:
            return "refused"
        if self.is_given_up(one):
            return "died"
        if len(self.plan.labels) - 1 in one.results:
            return "done"
        if not one.results:
            return "begun"
        return f"stopped after {self.plan.labels[max(one.results)]} steps"


def figures_text(figures: Mapping[str, float | None], names: tuple[str, ...]) -> str:
    """Some metrics as a part of a line."""
    parts = [f"{name} " + ("not defined" if figures.get(name) is None else f"{figures[name]:.4g}") for name in names]
    return ", ".join(parts)


def trials_from(entries: list[dict[str, Any]], plan: SearchPlan) -> list[Trial]:
    """The trials of an earlier part of a search, from what `Search.save` wrote, checked."""
    labels = {_END if label is None else str(label): rung for rung, label in enumerate(plan.labels)}
    found = []
    for number, entry in enumerate(entries):
        parameters = {name: tuple(v) if isinstance(v, list) else v for name, v in entry["parameters"].items()}
        results = {labels[label]: figures for label, figures in entry["results"].items() if label in labels}
        refused = entry["error"] if entry["status"] == "refused" else None
        found.append(Trial(number, parameters, results, entry["failures"], refused, entry["error"]))
    return found
