"""The space of a search: flags of the training command, the values that each may have, and which ones a trial gets.

What a trial gets is a function of the space, the seed, its number and, for TPE, of the results of certain trials before
it. Nothing else counts: not when results came, nor on which machine. So a search that was interrupted goes on with the
same trials.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from textual_inversion.settings.choices import GRID, TPE

# The value of a flag as on a command line: a word, several words, or None where the flag is left out.
Setting = str | tuple[str, ...] | None
MOST_TRIALS = 100_000
_DIGITS = 6  # significant ones of a number that is drawn


@dataclass(frozen=True)
class Axis:
    """A flag that differs between trials.

    Attributes:
        name: of the flag.
        values: what it may be; () for a range.
        low, high: ends of a range, both included.
        step: between the values of a range; None: any number.
        is_log: whether the logarithm is spread evenly, not the number.
        is_whole: whether only whole numbers are drawn.
    """

    name: str
    values: tuple[Setting, ...] = ()
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    is_log: bool = False
    is_whole: bool = False

    @property
    def is_list(self) -> bool:
        """Whether it has a list of values, so that a grid can go through it."""
        return bool(self.values)

    def drawn(self, share: float) -> Setting:
        """The value at a place in [0, 1), all values being spread over it evenly."""
        if self.is_list:
            return self.values[int(share * len(self.values))]
        if self.is_log:
            value = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
            return self.text(min(max(value, self.low), self.high))
        if self.step is not None:
            count = int((self.high - self.low) / self.step + 1e-9) + 1
            return self.text(self.low + self.step * int(share * count))
        if self.is_whole:
            return self.text(self.low + int(share * (self.high - self.low + 1)))
        return self.text(self.low + share * (self.high - self.low))

    def text(self, value: float) -> str:
        """A number of the range as a word of a command line."""
        return str(round(value)) if self.is_whole else f"{value:.{_DIGITS}g}"


Space = tuple[Axis, ...]
Parameters = dict[str, Setting]


def arguments(parameters: Mapping[str, Setting]) -> list[str]:
    """The command line of some parameters."""
    words: list[str] = []
    for name, value in parameters.items():
        if isinstance(value, tuple):
            words += [f"--{name}", *value]
        elif value is not None:
            words.append(f"--{name}={value}")
    return words


def grid_size(space: Space) -> int:
    """How many trials a whole grid has; every axis has a list of values."""
    return math.prod(len(axis.values) for axis in space)


def grid_trial(space: Space, number: int) -> Parameters:
    """Trial `number` of a whole grid, the last flag changing fastest."""
    shape = [len(axis.values) for axis in space]
    places = np.unravel_index(number, shape)
    return {axis.name: axis.values[int(place)] for axis, place in zip(space, places, strict=True)}


def random_trial(space: Space, seed: int, number: int) -> Parameters:
    """Trial `number` of a random search."""
    shares = np.random.default_rng([seed, number]).random(len(space))
    return {axis.name: axis.drawn(float(share)) for axis, share in zip(space, shares, strict=True)}


@dataclass(frozen=True)
class Finished:
    """A trial whose result is known.

    Attributes:
        parameters: of the trial.
        values: of each objective.
    """

    parameters: Parameters
    values: tuple[float, ...]


def random_at_first(num_trials: int) -> int:
    """How many trials of TPE are drawn at random before anything is learned from results."""
    return min(10, max(3, num_trials // 4))


def tpe_trial(
    space: Space, seed: int, number: int, finished: Sequence[Finished], is_better: Sequence[bool], num_trials: int
) -> Parameters:
    """Trial `number` of a search by tree-structured Parzen estimators (Bergstra et al., NeurIPS 2011), by Optuna.

    Args:
        finished: trials that it may learn from, in the order of their numbers.
        is_better: of each objective, whether more is better.
        num_trials: of the whole search.
    """
    if number < random_at_first(num_trials) or not finished:
        return random_trial(space, seed, number)
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # A sampler has a state of its own, which no interrupted search would find again: so each trial gets a new one.
    own_seed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    sampler = optuna.samplers.TPESampler(seed=own_seed, n_startup_trials=1)
    directions = ["maximize" if better else "minimize" for better in is_better]
    study = optuna.create_study(directions=directions, sampler=sampler)
    spread = {axis.name: _distribution(axis) for axis in space}
    for one in finished:
        inside = {axis.name: _inside(axis, one.parameters[axis.name]) for axis in space}
        study.add_trial(optuna.trial.create_trial(params=inside, distributions=spread, values=list(one.values)))
    chosen = study.ask(spread).params
    return {axis.name: _outside(axis, chosen[axis.name]) for axis in space}


def _distribution(axis: Axis) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if axis.is_list:
        return CategoricalDistribution(tuple(range(len(axis.values))))
    if axis.is_whole:
        step = 1 if axis.step is None else round(axis.step)
        return IntDistribution(round(axis.low), round(axis.high), log=axis.is_log, step=1 if axis.is_log else step)
    return FloatDistribution(axis.low, axis.high, log=axis.is_log, step=None if axis.is_log else axis.step)


def _inside(axis: Axis, value: Setting) -> Any:
    """A value as Optuna holds it."""
    if axis.is_list:
        return axis.values.index(value)
    number = float(value)
    return round(number) if axis.is_whole else min(max(number, axis.low), axis.high)


def _outside(axis: Axis, value: Any) -> Setting:
    return axis.values[value] if axis.is_list else axis.text(value)


def trial_parameters(
    space: Space,
    method: str,
    seed: int,
    number: int,
    finished: Sequence[Finished],
    is_better: Sequence[bool],
    num_trials: int,
) -> Parameters:
    """What trial `number` of a search gets. See `tpe_trial` for the arguments; only TPE looks at what is finished."""
    if method == GRID:
        return grid_trial(space, number)
    if method == TPE:
        return tpe_trial(space, seed, number, finished, is_better, num_trials)
    return random_trial(space, seed, number)
