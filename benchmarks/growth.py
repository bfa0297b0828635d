"""How the cost of a run grows with its images, concepts, embedding vectors and global batch.

    python benchmarks/growth.py
    python benchmarks/growth.py --sweep concepts --concepts 1 100 1000

Every figure is of a run of the real training command on the demo model, in its own process, on generated images. One
size grows at a time; the others are those of the first run: one concept of one vector and six images, 8 samples a step.
A global batch is made of micro-batches of 8, as on one machine that has no room for more.
"""

import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import runs, tables  # noqa: E402
from textual_inversion.cli.parser import OneLineParser  # noqa: E402
from textual_inversion.settings.bounds import positive_int  # noqa: E402
from textual_inversion.system.errors import SettingsError, run_command  # noqa: E402
from textual_inversion.system.paths import DEMO_MODEL  # noqa: E402

_SIDE = 256  # pixels of an image as it lies on the disk
_MICRO_BATCH = 8
# Samples after which a run has been timed for long enough.
_ENOUGH_SAMPLES = 512


@dataclass(frozen=True)
class Case:
    """The sizes of a run.

    Attributes:
        images: of each concept.
        concepts: that are learned.
        vectors: of each concept.
        global_batch: samples of an optimizer step.
    """

    images: int = 6
    concepts: int = 1
    vectors: int = 1
    global_batch: int = _MICRO_BATCH

    @property
    def micro_batch(self) -> int:
        """Samples that go through the model together."""
        return min(_MICRO_BATCH, self.global_batch)

    @property
    def warm_up(self) -> int:
        """Steps that are not timed: until every concept has had its turn, and the optimizer knows all of them."""
        return 0 if self.global_batch > _ENOUGH_SAMPLES else math.ceil(self.concepts / self.global_batch)


# Sweep -> the sizes that it goes through, the title of its column, and the other sizes of its runs.
SWEEPS = {
    "images": ((6, 100, 1000), "images", Case()),
    "concepts": ((1, 10, 100, 300), "concepts, of an image each", Case(images=1)),
    "vectors": ((1, 8, 32), "vectors", Case()),
    "global_batch": ((8, 256, 4096), "samples of a step", Case()),
}
_ENCODED = ("images", "concepts")  # sweeps in which more images are read and encoded


@dataclass(frozen=True)
class Cost:
    """What a run costs.

    Attributes:
        before: seconds from calling the command to its first optimizer step.
        step: seconds of a step, the median.
        saving: seconds in which the embeddings are saved at the end.
        peak: most resident bytes.
    """

    before: float
    step: float
    saving: float
    peak: int


def build_parser() -> OneLineParser:
    """The command's flags."""
    parser = OneLineParser(prog="growth.py", description="How the cost of a run grows with what it is given.")
    flag = parser.add_argument
    flag("--sweep", choices=SWEEPS, nargs="+", default=list(SWEEPS), help="what grows")
    for name, (sizes, title, _) in SWEEPS.items():
        flag(f"--{name}", type=positive_int, nargs="+", default=list(sizes), metavar="N", help=title)
    flag("--steps", type=positive_int, default=8, help="optimizer steps that are timed; less of large global batches")
    flag("--num_threads", type=positive_int, help="unset: all cores")
    runs.add_work_dir(flag)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = build_parser().parse_args(argv)
    odd = next((size for size in args.global_batch if size > _MICRO_BATCH and size % _MICRO_BATCH), None)
    if odd is not None:
        raise SettingsError(
            f"--global_batch {odd} is no multiple of the micro-batch of {_MICRO_BATCH}; choose one that is"
        )
    measured: dict[Case, Cost] = {}
    parts, targets = [], []
    for name in args.sweep:
        costs = {}
        for size in getattr(args, name):
            case = replace(SWEEPS[name][2], **{name: size})
            if case not in measured:
                measured[case] = measure(args, case)
            costs[size] = measured[case]
        parts.append(growth_table(SWEEPS[name][1], costs))
        targets += targets_of(name, costs)
    print(tables.section("Growth, demo model", *parts, tables.targets_table(targets)))


def measure(args, case: Case) -> Cost:
    """Run the command with these sizes."""
    runs.say(f"growth: {case}")
    timed = min(args.steps, max(1, _ENOUGH_SAMPLES // case.global_batch))
    words = arguments(case, case.warm_up + timed, args.work_dir, args.num_threads)
    record = runs.record(words, args.work_dir / "growth", instruments=["--memory", "--only_training"])[0]
    return cost_of(record, case.warm_up)


def arguments(case: Case, steps: int, work_dir: Path, num_threads: int | None) -> list[str]:
    """The command's flags for these sizes; makes the images."""
    folders = [
        runs.draw_images(work_dir / f"growth-images/{case.images}-{number}", case.images, _SIDE, seed=number)
        for number in range(case.concepts)
    ]
    return runs.quiet_training(
        DEMO_MODEL,
        folders,
        work_dir / "growth-out",
        steps,
        placeholder_token=[f"<concept-{number}>" for number in range(case.concepts)],
        num_vectors=case.vectors,
        train_batch_size=case.micro_batch,
        gradient_accumulation_steps=case.global_batch // case.micro_batch,
        num_threads=num_threads,
    )


def cost_of(record: dict, warm_up: int) -> Cost:
    """What the record of a run says; the first `warm_up` steps are not timed."""
    seconds = runs.step_seconds(record, warm_up)
    saved = [phase["end"] - phase["begin"] for phase in record["phases"] if phase["name"] == "saving"]
    before = record["steps"][0][0] - record["launched"]
    return Cost(before, tables.median(seconds), sum(saved), max(phase["peak"] for phase in record["phases"]))


def growth_table(title: str, costs: dict[int, Cost]) -> str:
    """A line for each size, and the seconds of a step beside those of the smallest one."""
    first = next(iter(costs.values()))
    head = (title, "before the first step", "a step", "of the first", "saving", "peak memory")
    rows = [
        (
            str(size),
            tables.seconds(cost.before),
            tables.seconds(cost.step),
            tables.times(tables.ratio(cost.step, first.step)),
            tables.seconds(cost.saving),
            tables.gigabytes(cost.peak),
        )
        for size, cost in costs.items()
    ]
    return tables.table(head, rows)


def targets_of(name: str, costs: dict[int, Cost]) -> list[tables.Target]:
    """What may grow with the largest size: a step with its samples alone; the time before the first one with images."""
    (small, first), (large, last) = min(costs.items()), max(costs.items())
    if small == large:
        return []
    what = f"{large} beside {small} {SWEEPS[name][1]}:"
    shown, samples = ("a sample", large / small) if name == "global_batch" else ("a step", 1)
    targets = [
        tables.Target(f"{what} time of {shown}, ratio", last.step / first.step / samples, 1.25),
        tables.Target(f"{what} more peak memory, MB", (last.peak - first.peak) / 1e6, 100),
    ]
    if name in _ENCODED:
        each = (last.before - first.before) / (large - small)
        targets.append(tables.Target(f"{what} seconds before the first step for each more", each, 0.02))
    return targets


if __name__ == "__main__":
    run_command(main)
