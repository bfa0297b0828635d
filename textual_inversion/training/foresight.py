"""What a run will take, said before it begins (`--plan`): seconds, memory, disk, and which step saves what.

Everything is read as for the run itself. Then each kind of work is done once or twice and timed: optimizer steps, the
loss on the fixed set, images of a few denoising steps, the scores of the demo. What a run does is counted from its
intervals. Nothing is written, not even the output folder.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from textual_inversion.system.progress import duration

# Seconds of a small save: some files of kilobytes, written aside, flushed and listed.
SAVE_SECONDS = 0.04
_BYTES_A_SECOND = 250e6  # of weights that are written
_LEAST_STEPS, _MOST_STEPS, _STEP_SECONDS = 2, 12, 3.0  # steps that are timed: two, or more where they are quick
_SHOWN_STEPS = 4  # of a long list of steps, the first ones and the last


@dataclass
class Work:
    """One kind of work: how often it is done, and what one time takes.

    Attributes:
        count: times in the whole run.
        seconds: one time.
        bytes: that one time leaves on disk.
        kept: how many of these stay there; None: all.
    """

    count: int
    seconds: float = 0.0
    bytes: int = 0
    kept: int | None = None

    @property
    def all_seconds(self) -> float:
        """Of all times together."""
        return self.count * self.seconds

    @property
    def all_bytes(self) -> int:
        """That stay on disk."""
        return self.bytes * (self.count if self.kept is None else min(self.count, self.kept))


@dataclass
class Forecast:
    """What a run will take.

    Attributes:
        start: seconds from the beginning of the process to the first step.
        steps: seconds of all optimizer steps.
        work: name -> what else is done, in the order in which it is told.
        first_image: seconds from the beginning to the first validation image; None: there are none.
        memory: bytes of the process at its largest.
        gpu_memory: bytes that are taken of the card at the most; 0 without one.
        schedule: what is saved -> after which steps.
    """

    start: float
    steps: float
    work: dict[str, Work]
    first_image: float | None
    memory: int
    gpu_memory: int = 0
    schedule: dict[str, list[int]] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        return self.start + self.steps + sum(each.all_seconds for each in self.work.values())

    @property
    def disk(self) -> int:
        """Bytes that the run leaves on disk."""
        return sum(each.all_bytes for each in self.work.values())


def seconds_of_steps(timed: Sequence[float], count: int) -> float:
    """Seconds of `count` optimizer steps, after the first ones were timed.

    The first step is dearer than the others: memory is taken and kernels are chosen. It counts once; the others as the
    median of those that were timed.
    """
    if not timed or not count:
        return 0.0
    usual = statistics.median(timed[1:]) if len(timed) > 1 else timed[0]
    return timed[0] + (count - 1) * usual


def seconds_of_drawing(short: tuple[int, float], long: tuple[int, float], steps: Sequence[int]) -> float:
    """Seconds of images, from two trials: each takes a part that is the same, and a part for each denoising step.

    Args:
        short, long: (denoising steps, seconds an image) of a trial, the second with more steps.
        steps: denoising steps of each image that is to be drawn.
    """
    (few, less), (many, more) = short, long
    each = max(0.0, (more - less) / (many - few))
    fixed = max(0.0, less - few * each)
    return sum(fixed + each * count for count in steps)


class StepTimes:
    """In the place of a run's callbacks: times the first optimizer steps, and ends the run after them.

    Args:
        before: called when training is set up, before the first step.
        clock: monotonic, in seconds.

    Attributes:
        seconds: of each step that was taken.
        has_settled: whether enough steps were taken.
    """

    def __init__(self, before: Callable[[], None], clock: Callable[[], float] = time.monotonic):
        self._before, self._clock = before, clock
        self.seconds: list[float] = []
        self.has_settled = False

    def __enter__(self) -> "StepTimes":
        self._before()
        self._begun = self._clock()
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    def after_step(self, step: int, training_loss: object, learning_rate: float) -> None:
        """Note what the step took; the loss is read, so that a card has done its work."""
        float(training_loss)
        now = self._clock()
        self.seconds.append(now - self._begun)
        self._begun = now
        count = len(self.seconds)
        self.has_settled = count >= _MOST_STEPS or (count >= _LEAST_STEPS and sum(self.seconds) >= _STEP_SECONDS)

    def take_best(self) -> None:
        """The vectors are not kept."""


def seconds_of_weights(size: int) -> float:
    """Seconds that it takes to write weights of so many bytes."""
    return size / _BYTES_A_SECOND


# ---------------------------------------------------------------------------------------------------------- in words


def forecast_lines(forecast: Forecast, steps: int) -> list[str]:
    """The forecast in a few lines.

    Args:
        steps: optimizer steps that the run will take.
    """
    each = forecast.steps / max(1, steps)
    parts = {"start": forecast.start, f"{steps} steps of {each:.2f} s": forecast.steps}
    parts |= {name: work.all_seconds for name, work in forecast.work.items() if work.all_seconds >= 0.05}
    told = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in parts.items())
    lines = [f"plan: in all about {forecast.seconds:.1f} s ({duration(forecast.seconds)}): {told}"]
    if forecast.first_image is not None:
        lines.append(f"plan: the first validation image after about {forecast.first_image:.1f} s")
    card = f", {size_text(forecast.gpu_memory)} of the card's" if forecast.gpu_memory else ""
    lines.append(f"plan: peak memory about {size_text(forecast.memory)}{card}")
    kept = ", ".join(f"{name} {size_text(work.all_bytes)}" for name, work in forecast.work.items() if work.all_bytes)
    lines.append(f"plan: on disk about {size_text(forecast.disk)}: {kept}")
    lines += [f"plan: {name} after {steps_text(due)}" for name, due in forecast.schedule.items() if due]
    return [*lines, "plan: nothing was written; the same command without --plan is the run"]


def steps_text(steps: Sequence[int]) -> str:
    """Steps in words: all of a few, the beginning and the end of many."""
    word = "step" if len(steps) == 1 else "steps"
    if len(steps) <= _SHOWN_STEPS + 2:
        return f"{word} {', '.join(map(str, steps))}"
    return f"{word} {', '.join(map(str, steps[:_SHOWN_STEPS]))}, …, {steps[-1]} ({len(steps)} times)"


def size_text(size: int) -> str:
    """A number of bytes in words, in powers of ten: "31 MB"."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            number = size / unit
            return f"{number:.1f} {name}" if number < 100 else f"{number:.0f} {name}"
    return f"{math.ceil(size)} bytes"
