"""Which trials go on: successive halving with promotions, filled up asynchronously (Li et al., MLSys 2020).

All trials train to the first rung. Of each rung, the best go on to the next, one of so many as the factor says, up to
the last rung, where training ends. A trial goes on from the checkpoint it was stopped at, which continues it bit for
bit.

Who goes on is what the complete rung says, so it does not depend on how fast trials ran, or on interruptions. A slot
that is free before that is known goes on with the trial that is best so far: if it is among the best in the end, which
is likely, nothing was lost by not waiting; if not, its later results are recorded and do not count.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

FAILED = -math.inf  # the value of a trial that has none


def rungs(first: int, last: int, factor: int) -> tuple[int, ...]:
    """The steps at which trials are compared: `first`, `factor` times as many, …, and `last`, with some way to it."""
    found = [first]
    while 3 * found[-1] * factor <= 2 * last:
        found.append(found[-1] * factor)
    return (*found, last) if found[-1] < last else (last,)


@dataclass(frozen=True)
class Ladder:
    """The rungs of a search, and what is known of its trials there.

    Attributes:
        num_trials: of the search.
        steps: of the rungs.
        factor: one of so many trials of a rung goes on.
        values: for each rung, trial -> its value there, more being better; FAILED where it has none.
    """

    num_trials: int
    steps: Sequence[int]
    factor: int
    values: Sequence[Mapping[int, float]]

    @cached_property
    def _levels(self) -> list["_Level"]:
        """What is certain of each rung, from the first to the last."""
        found = [_Level(list(range(self.num_trials)), self.num_trials, self.values[0])]
        for values in self.values[1:]:
            below = found[-1]
            size = max(1, below.size // self.factor)
            known = ranked(below.known())
            certain = known[: max(0, size - below.unknown())]  # all that are not known may be better
            members = [trial for trial in certain if below.values[trial] > FAILED]
            # Where others failed, fewer go on than there would be room for.
            found.append(_Level(members, len(members) if below.is_complete() else size, values))
        return found

    def members(self, rung: int) -> list[int]:
        """The trials of which it is certain that they belong to a rung; above the first one, the best first."""
        return self._levels[rung].members

    def is_complete(self, rung: int) -> bool:
        """Whether all trials of a rung are known and have their results there."""
        return all(level.is_complete() for level in self._levels[: rung + 1])

    def likely(self, rung: int) -> list[int]:
        """The trials that would go on from a rung if no further result came, the best first."""
        known = ranked({trial: value for trial, value in self.values[rung].items() if value > FAILED})
        return known[: len(known) // self.factor]

    def next_work(self, busy: Collection[int], begun: int, *, may_begin: bool = True) -> tuple[int, int] | None:
        """(trial, rung) of what is to be done next: certain promotions, then new trials, then likely promotions.

        Args:
            busy: trials that are at work, or must not be.
            begun: trials from this number on have not begun.
            may_begin: whether the next new trial may begin.

        Returns:
            None where nothing can be done now. A new trial has the number `begun` and rung 0.
        """
        heights = range(len(self.steps) - 1, 0, -1)
        for find in (self.members, None, lambda rung: self.likely(rung - 1)):
            if find is None:
                waiting = [t for t in range(begun) if t not in busy and t not in self.values[0]]
                if waiting:
                    return waiting[0], 0
                if may_begin and begun < self.num_trials:
                    return begun, 0
                continue
            for rung in heights:
                for trial in find(rung):
                    if trial not in busy and trial not in self.values[rung]:
                        return trial, rung
        return None

    def best(self) -> int | None:
        """The best trial of the highest rung that has a result; None where none has."""
        for rung in range(len(self.steps) - 1, -1, -1):
            inside = {trial: self.values[rung][trial] for trial in self.members(rung) if trial in self.values[rung]}
            found = [trial for trial in ranked(inside) if inside[trial] > FAILED]
            if found:
                return found[0]
        return None

    def is_done(self) -> bool:
        """Whether nothing that counts is left to do."""
        return all(self.is_complete(rung) for rung in range(len(self.steps)))


@dataclass(frozen=True)
class _Level:
    """A rung: the trials that certainly belong to it, how many it will have, and all results there."""

    members: list[int]
    size: int
    values: Mapping[int, float]

    def known(self) -> dict[int, float]:
        return {trial: self.values[trial] for trial in self.members if trial in self.values}

    def unknown(self) -> int:
        return self.size - len(self.known())

    def is_complete(self) -> bool:
        return self.unknown() == 0


def ranked(values: Mapping[int, float]) -> list[int]:
    """Trials by their values, the best first; equal ones by their numbers."""
    return sorted(values, key=lambda trial: (-values[trial], trial))
