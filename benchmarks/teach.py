"""Many concepts: seconds for each, by how many are learned in one run, and what a list of 200 takes.

    python benchmarks/teach.py                       200 toys of the demo world, together and one by one
    python benchmarks/teach.py --concepts 12

First, runs of 1, 2, 4, … concepts are measured, one at a time on one core, each with as many steps as it has in a list:
from which number on it is cheaper to learn concepts together. Then the whole list is learned by `teach.py`, as it
comes, and a part of it with --alone: all of it one by one would take too long to be waited for.
"""

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import runs, tables  # noqa: E402
from demo import drawing  # noqa: E402
from demo.specs import PHOTO, SCENES, random_toy  # noqa: E402
from textual_inversion.cli.parser import OneLineParser  # noqa: E402
from textual_inversion.settings.bounds import positive_int  # noqa: E402
from textual_inversion.system.errors import run_command  # noqa: E402
from textual_inversion.system.paths import ROOT  # noqa: E402

_SIZE, _IMAGES = 128, 4
_FIRST_SEED = 2**41  # past every seed of the demo's own images


def build_parser() -> OneLineParser:
    """The command's flags."""
    parser = OneLineParser(prog="teach.py", description="What teaching many concepts costs.")
    flag = parser.add_argument
    flag("--concepts", type=positive_int, default=200, metavar="N", help="concepts of the list")
    flag("--alone", type=positive_int, default=8, metavar="N", help="of them, so many one by one")
    flag("--sizes", type=positive_int, nargs="+", default=[1, 2, 4, 8, 16], metavar="N",
         help="concepts in a run, for the runs that are measured by themselves")  # fmt: skip
    flag("--steps", type=positive_int, default=100, metavar="N", help="optimizer steps of each run")
    flag("--together", type=positive_int, default=8, metavar="N", help="concepts in a run of the list")
    runs.add_work_dir(flag)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Print the figures; the status is 1 where a concept was not learned."""
    args = build_parser().parse_args(argv)
    work = args.work_dir / "teach"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    concepts = _draw(work / "concepts", max(args.concepts, *args.sizes, args.alone))
    by_size, is_whole = _by_size(work, concepts, args)
    listed = _taught(work, concepts[: args.concepts], args.steps, "--together", str(args.together))
    alone = _taught(work, concepts[: args.alone], args.steps, "--alone")
    rows = [
        (what, count, one.learned, tables.seconds(one.wall), tables.seconds(one.wall / count))
        for what, count, one in (
            (f"together, {args.together} in a run", args.concepts, listed), ("one by one", args.alone, alone))
    ]  # fmt: skip
    share = tables.number((listed.wall / args.concepts) / (alone.wall / args.alone))
    whole = tables.table(("whole list, all cores", "concepts", "learned", "seconds", "seconds for each"), rows)
    note = f"Together takes {share} of the time of one by one, from the start of the command to its end."
    print(tables.section("Many concepts", by_size, whole, note))
    is_whole = is_whole and (listed.learned, alone.learned) == (args.concepts, args.alone)
    return 0 if is_whole else 1


def _by_size(work: Path, concepts: Sequence[Path], args) -> tuple[str, bool]:
    """The table of runs of so many concepts, one run at a time, and whether all were learned."""
    rows, first, is_whole = [], None, True
    for size in args.sizes:
        more = ("--together", str(size), "--parallel", "1", "--no_sheet")
        one = _taught(work, concepts[:size], args.steps, *more)
        own, is_whole = one.own / size, is_whole and one.learned == size
        first = first or own
        rows.append((size, tables.seconds(own), tables.number(own / first)))
        runs.say(f"{size} in a run: {own:.1f} s each")
    return tables.table(("concepts in a run, one core", "seconds for each", "of one by one"), rows), is_whole


@dataclass(frozen=True)
class Taught:
    """What a list took: seconds of the command, the runs' own, and how many concepts were learned."""

    wall: float
    own: float
    learned: int


def _draw(folder: Path, count: int) -> list[Path]:
    """So many toys of the demo world, a folder of images for each."""
    found = []
    for number in range(count):
        rng, own = random.Random(_FIRST_SEED + number), folder / f"toy-{number:03d}"
        own.mkdir(parents=True)
        toy = random_toy(rng)
        for place in range(_IMAGES):
            image = drawing.draw(
                toy, SCENES[place % len(SCENES)], PHOTO, _SIZE, seed=_FIRST_SEED + 100 * number + place
            )
            image.save(own / f"{place}.png")
        found.append(own)
    return found


def _taught(work: Path, concepts: Sequence[Path], steps: int, *flags: str) -> Taught:
    """Teach a list from its beginning."""
    listing, output = work / "list.csv", work / "out"
    lines = [f"{folder},<{folder.name}>,toy" for folder in concepts]
    listing.write_text("\n".join(["images,word,initializer", *lines]) + "\n", encoding="utf-8")
    shutil.rmtree(output, ignore_errors=True)
    words = [sys.executable, str(ROOT / "teach.py"), "--concepts", str(listing), "--max_train_steps", str(steps)]
    begun = time.perf_counter()
    done = subprocess.run([*words, "--output_dir", str(output), *flags], capture_output=True, text=True,
                          env=runs.default_environment())  # fmt: skip
    wall = time.perf_counter() - begun
    if not (output / "concepts.json").is_file():
        raise runs.BenchmarkError(f"teach.py failed: {done.stderr[-500:]}")
    known = json.loads((output / "concepts.json").read_text(encoding="utf-8"))
    own = sum(one["figures"].get("seconds") or 0.0 for one in known.values())
    return Taught(wall, own, len(list((output / "embeds").glob("*.pdparams"))))


if __name__ == "__main__":
    run_command(main)
