"""Peak memory of training, phase by phase.

    python benchmarks/memory.py
    python benchmarks/memory.py --case 256 512+gradient_checkpointing

Each case is a run of the real command in its own process. A case is a resolution and, after a plus, switches of the
command. Linux's own peak of resident memory (VmHWM: anonymous and mapped pages) is read and reset at the end of each
phase. The process is also sampled from outside many times a second. Where the peak cannot be reset, the samples give
the figures of the phases; and a run that takes nearly all of the machine's memory is ended.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import full_size_model, machine, peer, process_memory, runs, tables  # noqa: E402
from textual_inversion.cli.parser import OneLineParser  # noqa: E402
from textual_inversion.settings.bounds import positive, positive_int  # noqa: E402
from textual_inversion.system.errors import run_command  # noqa: E402

_CASES = ("256", "256+gradient_checkpointing", "512", "512+gradient_checkpointing")
_FIRST = {
    "images": "reading the images", "training": "before the first step", "pictures": "pictures after training"
}  # fmt: skip
# The second time that a phase of this name comes, it is something else.
_SECOND = {"images": "encoding the images", "training": "training"}
_ENDED = "ended: more than {} of memory"


class Watcher:
    """Samples the memory of a process from outside: called with its id every so often.

    Args:
        limit: bytes of resident memory at which the process is to be ended.

    Attributes:
        samples: (seconds of the monotonic clock, resident bytes).
    """

    def __init__(self, limit: float):
        self.limit, self.samples = limit, []

    def __call__(self, pid: int) -> str | None:
        resident = process_memory.resident(pid)
        self.samples.append((time.monotonic(), resident))
        return _ENDED.format(tables.gigabytes(self.limit)) if resident > self.limit else None

    def peak_between(self, begin: float, end: float) -> int:
        """The largest sample of this time; 0 if there is none."""
        return max((resident for when, resident in self.samples if begin <= when <= end), default=0)


def build_parser() -> OneLineParser:
    """The command's flags."""
    parser = OneLineParser(prog="memory.py", description="Peak memory of training, phase by phase.")
    flag = parser.add_argument
    flag("--size", choices=full_size_model.SIZES, default="full", help="base model")
    flag("--case", nargs="+", default=list(_CASES), help="resolution, and switches of the command after a plus")
    flag("--batch_size", type=positive_int, default=1)
    flag("--steps", type=positive_int, default=2, help="optimizer steps")
    flag("--denoising_steps", type=positive_int, default=2, help="of the pictures")
    flag("--limit_gb", type=positive, help="end a run that takes more; unset: nine tenths of the memory")
    flag("--peer", type=Path, action="append", default=[], metavar="PATH", help="also a script for this interpreter")
    flag("--peer_resolution", type=positive_int, default=256)
    runs.add_work_dir(flag)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = build_parser().parse_args(argv)
    args.limit = 1e9 * args.limit_gb if args.limit_gb else 0.9 * machine.memory_bytes()
    measured = {case: measure(args, case) for case in args.case}
    peaks = {case: overall(phases) for case, phases in measured.items()}
    targets = tables.targets_table(targets_of(peaks))
    peaks |= {f"{script.stem}, {args.peer_resolution}": peer_peak(args, script) for script in args.peer}
    by_phase = [phases_table(case, phases) for case, phases in measured.items()]
    title = f"Memory, {args.size} size, batch {args.batch_size}"
    print(tables.section(title, peaks_table(peaks), *by_phase, targets))


def measure(args, case: str) -> list[dict]:
    """The phases of one case, each with `label` and bytes; see `labelled`."""
    resolution, switches = parse_case(case)
    runs.say(f"memory: {case}")
    model = full_size_model.cached(args.work_dir, args.size)
    pictures = runs.draw_images(args.work_dir / "pictures-512")
    arguments = runs.quiet_training(
        model,
        pictures,
        args.work_dir / "memory-out",
        args.steps,
        train_batch_size=args.batch_size,
        resolution=resolution,
        overview=True,
        num_inference_steps=args.denoising_steps,
        only_save_embeds=False,
        **dict.fromkeys(switches, True),
    )
    watcher = Watcher(args.limit)
    try:
        records = runs.record(arguments, args.work_dir / "memory", instruments=["--memory"], watch=watcher)
    except runs.BenchmarkError as error:
        if _ENDED.partition("{")[0] not in str(error):
            raise
        return [{"label": "ended", "peak": watcher.peak_between(0, float("inf"))}]
    return labelled(records[0]["phases"], watcher)


def parse_case(case: str) -> tuple[int, list[str]]:
    """`512+gradient_checkpointing` -> 512 and the names of the switches.

    Raises:
        BenchmarkError: it does not begin with a number.
    """
    resolution, *switches = case.split("+")
    if not resolution.isdigit():
        raise runs.BenchmarkError(f"--case {case} should begin with a resolution, such as 512+gradient_checkpointing")
    return int(resolution), [name.removeprefix("--") for name in switches]


def labelled(phases: list[dict], watcher: Watcher) -> list[dict]:
    """Phases under distinct names; the time between two phases counts towards the earlier one."""
    found: list[dict] = []
    seen: list[str] = []
    for phase in phases:
        looked = watcher.peak_between(phase["begin"], phase["end"])
        # A peak that could not be begun anew is the whole run's so far: then only looking tells the phases apart.
        peak = max(looked, phase.get("peak", 0)) if phase.get("peak_is_own", True) else looked
        if not phase["name"]:
            if found:
                found[-1]["peak"] = max(found[-1]["peak"], peak)
            continue
        names = _SECOND if phase["name"] in seen else _FIRST
        seen.append(phase["name"])
        found.append({**phase, "label": names.get(phase["name"], phase["name"]), "peak": peak})
    return found


def overall(phases: list[dict]) -> int:
    """The peak over all phases, in bytes."""
    return max(phase["peak"] for phase in phases)


def peer_peak(args, script: Path) -> int:
    """The peak memory of a peer's run, in bytes."""
    runs.say(f"memory: {script.name}")
    model = full_size_model.cached(args.work_dir, args.size)
    pictures = runs.draw_images(args.work_dir / "pictures-512")
    output = args.work_dir / f"peer-{script.stem}"
    size = {"resolution": args.peer_resolution, "batch_size": args.batch_size}
    # Two counts of a progress bar make a step.
    steps = max(2, args.steps)
    words = peer.arguments(model, pictures, output, steps, **size)
    environment = runs.default_environment()
    return peer.run_peer(script.resolve(), words, output=output, steps=steps, environment=environment).peak


def phases_table(case: str, phases: list[dict]) -> str:
    """A line per phase: its peak, and the resident memory at its end by kind."""
    kinds = ("peak", "resident", "anonymous", "mapped", "proportional")
    rows = [(phase["label"], *(tables.gigabytes(phase.get(kind)) for kind in kinds)) for phase in phases]
    head = (f"**{case}**", "peak", "at its end", "own pages", "mapped files", "proportional")
    return tables.table(head, rows)


def peaks_table(peaks: dict[str, int]) -> str:
    """The peak of each run."""
    return tables.table(("run", "peak resident memory"), [(name, tables.gigabytes(p)) for name, p in peaks.items()])


def targets_of(peaks: dict[str, int]) -> list[tables.Target]:
    """What the project wants of these figures, where the case was measured."""
    wanted = {"256": 7.0, "512+gradient_checkpointing": 10.0, "512+low_memory": 10.0}
    return [
        tables.Target(f"{case}: peak resident memory, GB", peaks[case] / 1e9, bound)
        for case, bound in wanted.items()
        if case in peaks
    ]


if __name__ == "__main__":
    run_command(main)
