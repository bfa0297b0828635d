"""How near `--plan` comes to the run that it foretells: seconds of the whole command, peak memory, and disk.

    python benchmarks/foresight.py --rounds 3

Plan and run follow each other, on the demo as it is and on the demo with validation images. The seconds of a run are
those on the clock from its command to its end. Nothing else should run on the machine.
"""

import re
import shutil
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import process_memory, runs, tables  # noqa: E402
from benchmarks.machine import ROOT  # noqa: E402
from textual_inversion.cli.parser import OneLineParser  # noqa: E402
from textual_inversion.settings.bounds import positive_int  # noqa: E402
from textual_inversion.system.errors import run_command  # noqa: E402

CASES = {
    "the demo": [],
    "with validation images": ["--validation_prompt", "a <cat-toy> on the beach", "--validation_steps", "25"],
    "without overview, 300 steps": ["--overview", "false", "--max_train_steps", "300"],
}
UNITS = {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}
SECONDS, MEMORY, DISK = WANTED = (
    r"plan: in all about ([\d.]+) s", r"plan: peak memory about ([\d.]+) (\w+)", r"plan: on disk about ([\d.]+) (\w+)",
)  # fmt: skip


def build_parser() -> OneLineParser:
    """The command's flags."""
    parser = OneLineParser(prog="foresight.py", description="What --plan says, beside what the run takes.")
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=positive_int, default=3, help="plans and runs of each case, in turns")
    parser.add_argument("--steps", type=positive_int, help="optimizer steps; unset: those of the case")
    runs.add_work_dir(parser.add_argument)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = build_parser().parse_args(argv)
    rows, targets = [], []
    for case in args.case:
        ratios = []
        for number in range(args.rounds):
            runs.say(f"{case}, round {number + 1}")
            told, taken = one_round(case, args.steps, args.work_dir / "foresight")
            ratios.append([a / b for a, b in zip(told, taken, strict=True)])
        medians = [statistics.median(each) for each in zip(*ratios, strict=True)]
        rows.append((case, *(f"{told:.1f} / {took:.1f}" for told, took in zip(told, taken, strict=True)),
                     *map(tables.times, medians)))  # fmt: skip
        for name, ratio, bound in zip(("seconds", "memory"), medians, (0.15, 0.10), strict=False):
            targets.append(tables.Target(f"{case}: {name}, how far the plan is off", abs(ratio - 1), bound))
    head = ("case", "seconds, told / taken", "MB of memory", "MB on disk", "seconds", "memory", "disk")
    print(tables.section(f"What a run will take, {args.rounds} round(s)", tables.table(head, rows),
                         tables.targets_table(targets)))  # fmt: skip


def one_round(case: str, steps: int | None, folder: Path) -> tuple[list[float], list[float]]:
    """Seconds, MB of memory and MB on disk: as the plan tells them, and as the run takes them."""
    output, log, peak = folder / "out", folder / "said.log", [0]
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, ROOT / "train_textual_inversion.py", "--output_dir", output, *CASES[case]]
    command += [] if steps is None else ["--max_train_steps", str(steps)]

    def watch(pid: int) -> None:
        peak[0] = max(peak[0], process_memory.peak(pid))

    runs.run([*command, "--plan"], log=log)
    said = log.read_text()
    told = [float(re.search(SECONDS, said)[1]), *(megabytes(said, pattern) for pattern in (MEMORY, DISK))]
    seconds = runs.run(command, log=log, watch=watch)
    return told, [seconds, peak[0] / 1e6, on_disk(output) / 1e6]


def megabytes(said: str, pattern: str) -> float:
    """A size that the plan tells, in MB."""
    number, unit = re.search(pattern, said).groups()
    return float(number) * UNITS[unit] / 1e6


def on_disk(folder: Path) -> int:
    """Bytes of a folder, without hard links to files that are elsewhere too."""
    files = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum(file.st_size for file in files if file.st_nlink == 1)


if __name__ == "__main__":
    run_command(main)
