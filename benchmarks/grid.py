"""Grids: two processes against one, what resuming costs, and what is lost when processes are killed.

    python benchmarks/grid.py

The images of `demo/grid.yaml`, or of a small grid of the demo's concept, are drawn by one process and by two of one
thread each. A plan of thousands of images of which all but a few are there is continued. Two processes are killed
with SIGKILL at random moments and started again, until all images are there; they are compared with those of a run that
nobody disturbed, and each image's file and the journals tell whether any was drawn twice.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import process_memory, runs, tables  # noqa: E402
from textual_inversion.cli.parser import OneLineParser  # noqa: E402
from textual_inversion.settings.bounds import natural, positive_int  # noqa: E402
from textual_inversion.system.errors import run_command  # noqa: E402
from textual_inversion.system.paths import ROOT  # noqa: E402

DEMO_GRID = ROOT / "demo" / "grid.yaml"
PARTS = ("processes", "resume", "kills")
_POLL_SECONDS = 0.02
_FEW = 8  # images, whose peak memory is the measure
# What a process of the resumed plan runs first: everything is recorded as by the command, and nothing computed.
_FILL = """
import os, signal, sys
sys.path.insert(0, {root!r})
from PIL import Image
import infer
from textual_inversion.generation import run_plan

def draw(model, plan, batches, **_):
    image = Image.linear_gradient("L").resize((64, 64)).convert("RGB")
    positions = [position for batch in batches for position in batch]
    yield from ((position, image) for position in positions[:{count}])
    os.kill(os.getpid(), signal.SIGKILL)

run_plan.draw = draw
infer.main(sys.argv[1:])
"""


@dataclass
class Drawn:
    """What drawing a grid took.

    Attributes:
        seconds: from the start of the command to its end.
        first: seconds to the first image.
        peak: the most bytes that one process was resident.
        images: that were drawn.
    """

    seconds: float
    first: float
    peak: int
    images: int


@dataclass
class Killed:
    """What was lost in runs that were killed."""

    kills: int = 0
    images: int = 0
    different: int = 0
    drawn_again: int = 0
    faults: list[str] = field(default_factory=list)


def build_parser() -> OneLineParser:
    """The command's flags."""
    parser = OneLineParser(prog="grid.py", description="Draw grids with several processes, resume them, and kill them.")
    flag = parser.add_argument
    flag("--part", choices=PARTS, nargs="+", default=list(PARTS))
    flag("--images", type=positive_int, help="of a grid that is drawn once; unset: those of demo/grid.yaml, or 480")
    flag("--steps", type=positive_int, default=10, help="denoising steps of images that demo/grid.yaml does not list")
    flag("--rounds", type=positive_int, default=1, help="runs of each kind, in turns")
    flag("--planned", type=positive_int, default=10_000, help="images of the plan that is resumed")
    flag("--left", type=positive_int, default=10, help="of them, images that are not there yet")
    flag("--kills", type=natural, default=20, help="at random moments")
    flag("--killed_images", type=positive_int, default=320, help="of the grid whose processes are killed")
    flag("--seed", type=int, default=0, metavar="N", help="of the random moments")
    flag("--embeds", default=None, metavar="FILE", help="unset: the demo's")
    runs.add_work_dir(flag)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Print the figures; the status is 1 where an image was lost."""
    args = build_parser().parse_args(argv)
    folder = args.work_dir / "grid"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    parts, targets, faults = [], [], []
    if "processes" in args.part:
        table, reached = two_against_one(args, folder)
        parts.append(table)
        targets += reached
    if "resume" in args.part:
        seconds = resumed(args, folder / "resumed")
        done = args.planned - args.left
        parts.append(tables.table(("resumed", ""), [(f"first new image, {done} of {args.planned} done",
                                                     tables.seconds(seconds))]))  # fmt: skip
        targets.append(tables.Target("seconds to the first new image of a resumed plan", seconds, 10))
    if "kills" in args.part:
        figures = killed(args, folder)
        faults = figures.faults
        parts.append(killed_table(figures))
        targets += [
            tables.Target("images that differ from those of an untouched run", figures.different, 0),
            tables.Target("images drawn again although they were complete", figures.drawn_again, 0),
        ]
    print(tables.section("Grids", *parts, tables.targets_table(targets)))
    for fault in faults:
        runs.say(f"FAULT: {fault}")
    return 1 if faults else 0


# ------------------------------------------------------------------------------------------------ commands


def words(args, images: int, out: Path, *more: str) -> list[str]:
    """The flags of a small grid of the demo's concept: two prompts, two guidance scales, and seeds."""
    embeds = [] if args.embeds is None else ["--embeds", args.embeds]
    return [*embeds, "--prompt", "a photo of a <cat-toy>", "a sketch of a <cat-toy>", "--guidance_scale", "1", "3",
            "--num_inference_steps", str(args.steps), "--num_images", str(max(1, images // 4)), "--seed", "1",
            "--num_threads", "1", "--output_dir", str(out), *more]  # fmt: skip


def grid_words(args, out: Path) -> list[str]:
    """The flags of the grid that is drawn once."""
    if args.images is None and DEMO_GRID.is_file():
        return ["--config", str(DEMO_GRID), "--num_threads", "1", "--output_dir", str(out)]
    return words(args, args.images or 480, out)


def started(flags: Sequence[str], processes: int, log: Path, launcher: bool = False) -> list[subprocess.Popen]:
    """Start a command in so many processes, by themselves or by the launcher; `log` gets their output."""
    command = [sys.executable, str(ROOT / "infer.py"), *flags]
    if launcher and processes > 1:
        launch = ["-m", "paddle.distributed.launch", "--nproc_per_node", str(processes), "--log_dir", f"{log}-ranks"]
        command[1:1] = ["-u", *launch]
    several = processes if not launcher else 1
    log.parent.mkdir(parents=True, exist_ok=True)
    made = []
    with open(log, "ab") as file:
        for rank in range(several):
            ranks = {"PADDLE_TRAINER_ID": str(rank), "PADDLE_TRAINERS_NUM": str(several)}
            environment = runs.default_environment() | (ranks if several > 1 else {})
            made.append(subprocess.Popen(command, stdout=file, stderr=file, env=environment, cwd=ROOT))
    return made


def names_in(out: Path) -> set[str]:
    """The names of the images in a folder."""
    return {path.name for path in out.glob("[0-9]*-seed*.png")}


def end(processes: Sequence[subprocess.Popen]) -> None:
    """End what still runs, and those that it has started."""
    for process in processes:
        for member in reversed(process_memory.tree(process.pid)) if process.poll() is None else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)
        process.wait()


# ------------------------------------------------------------------------------------------------ two against one


def drawn(flags: Sequence[str], processes: int, out: Path) -> Drawn:
    """Draw a grid; raises BenchmarkError where a process fails."""
    runs.say(f"drawing with {processes} process(es)")
    shutil.rmtree(out, ignore_errors=True)
    log, begin, first, peak = out.with_suffix(".log"), time.monotonic(), 0.0, 0
    (process,) = running = started(flags, processes, log, launcher=True)
    try:
        while process.poll() is None:
            if not first and out.is_dir() and names_in(out):
                first = time.monotonic() - begin
            peak = max([peak, *map(process_memory.peak, process_memory.tree(process.pid))])
            time.sleep(_POLL_SECONDS)
    finally:
        end(running)
    if process.returncode:
        raise runs.BenchmarkError(f"infer.py ended with status {process.returncode}: {runs.last_words(log)}")
    return Drawn(time.monotonic() - begin, first, peak, len(names_in(out)))


def two_against_one(args, folder: Path) -> tuple[str, list[tables.Target]]:
    """A table of both, and what should be reached."""
    few = drawn(words(args, _FEW, folder / "few"), 1, folder / "few")
    taken: dict[int, list[Drawn]] = {1: [], 2: []}
    for _ in range(args.rounds):
        for processes, kept in taken.items():
            out = folder / f"by-{processes}"
            kept.append(drawn(grid_words(args, out), processes, out))
    one, two = (min(taken[processes], key=lambda one: one.seconds) for processes in (1, 2))
    different = len(differing(folder / "by-1", folder / "by-2"))
    rows = [
        (name, run.images, tables.seconds(run.seconds), tables.seconds(run.first), tables.gigabytes(run.peak))
        for name, run in ((f"{_FEW} images", few), ("one process", one), ("two processes", two))
    ]
    head = ("one thread each", "images", "seconds", "to the first image", "peak of a process")
    return tables.table(head, rows), [
        tables.Target("seconds of one process over those of two", one.seconds / two.seconds, 1.7, at_least=True),
        tables.Target(f"peak memory over that of {_FEW} images", max(one.peak, two.peak) / few.peak, 1.2),
        tables.Target("images that differ between one process and two", different, 0),
    ]


def differing(one: Path, other: Path) -> list[str]:
    """Names of images that are not the same bytes in both folders."""
    names = names_in(one) | names_in(other)
    return sorted(name for name in names if content_of(one / name) != content_of(other / name))


def content_of(path: Path) -> bytes | None:
    """The bytes of a file; None where there is none."""
    return path.read_bytes() if path.is_file() else None


# ------------------------------------------------------------------------------------------------ resumed


def resumed(args, out: Path) -> float:
    """Seconds from the command to the first new image of a plan that is nearly done."""
    done = args.planned - args.left
    flags = words(args, args.planned, out)
    runs.say(f"recording {done} images")
    fill = _FILL.format(root=str(ROOT), count=done)
    with open(out.with_suffix(".log"), "ab") as log:
        subprocess.run([sys.executable, "-c", fill, *flags], stdout=log, stderr=log, cwd=ROOT)
    before = names_in(out)
    if len(before) != done:
        raise runs.BenchmarkError(f"{len(before)} of {done} images were recorded: {runs.last_words(out)}")
    runs.say("resuming")
    begin, seconds = time.monotonic(), None
    (process,) = running = started(flags, 1, out.with_suffix(".log"))
    try:
        while seconds is None and process.poll() is None:
            seconds = time.monotonic() - begin if names_in(out) - before else None
            time.sleep(_POLL_SECONDS)
        process.wait()
    finally:
        end(running)
    if seconds is None or process.returncode:
        raise runs.BenchmarkError(f"the plan was not resumed: {runs.last_words(out.with_suffix('.log'))}")
    return seconds


# ------------------------------------------------------------------------------------------------ killed


def killed(args, folder: Path) -> Killed:
    """Kill two processes at random moments and start them again, until all images are there."""
    figures, dice, rounds = Killed(), random.Random(args.seed), 0
    untouched = folder / "untouched"
    begin = time.monotonic()
    drawn(words(args, args.killed_images, untouched), 1, untouched)
    seconds = time.monotonic() - begin
    while figures.kills < args.kills or not rounds:
        out = folder / f"killed-{rounds}"
        kill_until_done(args, out, dice, seconds, figures)
        different = differing(untouched, out)
        figures.different += len(different)
        figures.images += len(names_in(out))
        figures.faults += [f"{name} differs in {out}" for name in different]
        rounds += 1
    return figures


def kill_until_done(args, out: Path, dice: random.Random, seconds: float, figures: Killed) -> None:
    """Start two processes, kill one or both at a random moment, and again; at the end let them finish.

    Args:
        seconds: that an untouched run takes.
    """
    flags, complete = words(args, args.killed_images, out), {}
    is_last = False
    while not is_last:
        is_last = figures.kills >= args.kills
        running = started(flags, 2, out.with_suffix(".log"))
        victims = dice.choice((running[:1], running[1:], running))
        moment = time.monotonic() + dice.uniform(0.1, 0.6) * seconds
        while any(process.poll() is None for process in running) and (is_last or time.monotonic() < moment):
            time.sleep(_POLL_SECONDS)
        alive = [process for process in victims if process.poll() is None]
        for process in alive:
            process.kill()
        figures.kills += len(alive)
        for process in running:
            process.wait()  # the other one draws its share to the end
        look(out, complete, figures)
        if not alive:
            is_last = True
    if {process.returncode for process in running} != {0}:
        figures.faults.append(f"the last run in {out} ended otherwise: {runs.last_words(out.with_suffix('.log'))}")


def look(out: Path, complete: dict[str, tuple[int, int]], figures: Killed) -> None:
    """Find images that were complete before and were drawn again; by their files, and by the journals of the killed.

    Args:
        complete: name -> what tells one file from its successor; is brought up to date.
    """
    if not out.is_dir():
        return
    recorded = [
        json.loads(line).get("file")
        for path in out.glob("manifest-*.jsonl")
        for line in path.read_bytes().splitlines(keepends=True)
        if line.endswith(b"\n")
    ]
    again = {name for name in recorded if name in complete}
    now = {name: ((out / name).stat().st_ino, (out / name).stat().st_mtime_ns) for name in names_in(out)}
    again |= {name for name, stamp in complete.items() if now.get(name) != stamp}
    figures.drawn_again += len(again)
    figures.faults += [f"{out / name} was drawn again" for name in sorted(again)]
    complete.update(now)


def killed_table(figures: Killed) -> str:
    """The figures, a line each."""
    rows = [
        ("processes killed", figures.kills),
        ("images of all killed runs", figures.images),
        ("of them equal to those of an untouched run", figures.images - figures.different),
        ("complete images that were drawn again", figures.drawn_again),
    ]
    return tables.table(("killed and continued", ""), rows)


if __name__ == "__main__":
    run_command(main)
