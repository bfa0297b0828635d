"""Kill training runs with SIGKILL, resume them, and check that nothing was lost.

    python benchmarks/kill_and_resume.py [--random 40] [--every 1]

First, runs are killed at each step of their saves, one after the other: before a temporary file is made, written,
flushed or renamed, and before an old checkpoint is removed. Then runs with validation images, a log and a best step
are killed at random moments, up to three times each. After every kill, all files with final names are opened. Every
run is resumed with `--resume_from_checkpoint latest` until it ends, and its files are compared with those of a run
that was never killed. The base model is a tiny random one. The processes are forked from one that has imported paddle,
which saves the time of the import.
"""

import collections
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from benchmarks import runs, tables  # noqa: E402
from textual_inversion.cli.parser import OneLineParser  # noqa: E402
from textual_inversion.settings.bounds import natural, positive_int  # noqa: E402
from textual_inversion.system.errors import run_command  # noqa: E402

SETTINGS = ["--max_train_steps", "3", "--save_steps", "1", "--checkpoints_total_limit", "2", "--only_save_embeds"]
QUIET = ["--eval_steps", "0"]
RICH = ["--eval_steps", "1", "--keep_best", "--validation_prompt", "a <cat-toy>", "--validation_steps", "1",
        "--num_validation_images", "1", "--report_to", "visualdl"]  # fmt: skip
KILLS_A_RUN = 3


@dataclass
class Figures:
    """What was tried, and the results."""

    kills: collections.Counter = field(default_factory=collections.Counter)
    runs: int = 0
    equal: int = 0
    opened: int = 0
    faults: list[str] = field(default_factory=list)

    def table(self) -> str:
        """The figures, a line each."""
        in_saves = {name: count for name, count in self.kills.items() if name != "random"}
        rows = [
            *((f"kills before a save's step: {name}", count) for name, count in in_saves.items()),
            ("kills at a step of a save", sum(in_saves.values())),
            ("kills at a random moment", self.kills["random"]),
            ("kills in all", sum(self.kills.values())),
            ("files opened after the kills", self.opened),
            ("resumed runs", self.runs),
            ("resumed runs equal to the untouched one", self.equal),
        ]
        return tables.table(("killed and gone on", ""), rows)

    def targets(self) -> list[tables.Target]:
        """What must not occur."""
        named = {"not whole": "files that are not whole", "left behind": "temporary files left behind"}
        counts = {what: sum(words in fault for fault in self.faults) for words, what in named.items()}
        counts["resumed runs that differ from the untouched one"] = self.runs - self.equal
        return [tables.Target(what, count, 0) for what, count in counts.items()]


def build_parser() -> OneLineParser:
    """The command's flags."""
    parser = OneLineParser(prog="kill_and_resume.py", description="Kill training runs, and check that nothing is lost.")
    flag = parser.add_argument
    flag("--random", type=natural, default=40, metavar="N", help="kills at random moments, at least")
    flag("--every", type=positive_int, default=1, metavar="N", help="kill at every N-th step of the saves only")
    flag("--seed", type=int, default=0, metavar="N", help="of the random moments")
    runs.add_work_dir(flag)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Print the figures; the status is 1 where something was lost."""
    args = build_parser().parse_args(argv)
    from textual_inversion.system.environment import prepare_environment

    prepare_environment(1)
    import ppdiffusers  # noqa: F401

    args.work_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.work_dir) as folder:
        figures = try_all(Path(folder), args.every, args.random, random.Random(args.seed))
    print(tables.section("Killed runs", figures.table(), tables.targets_table(figures.targets())))
    for fault in figures.faults:
        runs.say(f"FAULT: {fault}")
    return 1 if figures.faults else 0


def try_all(folder: Path, every: int, random_kills: int, dice: random.Random) -> Figures:
    """Both parts, with all runs in `folder`."""
    figures = Figures()
    kill_at_steps(folder, every, figures)
    if random_kills:
        kill_at_random(folder, random_kills, dice, figures)
    return figures


def kill_at_steps(folder: Path, every: int, figures: Figures) -> None:
    """Kill a run at each step of its saves."""
    argv = arguments(folder, *SETTINGS, *QUIET)
    steps = untouched(argv, folder / "untouched", folder / "steps.txt")
    for number in range(0, len(steps), every):
        out = folder / "killed"
        status = fork(lambda n=number, o=out: train(argv, o, kill_at=n))
        figures.kills[steps[number]] += 1
        if os.WTERMSIG(status) != signal.SIGKILL:
            figures.faults.append(f"the run that was to be killed at step {number} of its saves was not")
        look(out, figures)
        finish(argv, out, folder / "untouched", f"after {steps[number]} ({number})", figures)


def kill_at_random(folder: Path, kills: int, dice: random.Random, figures: Figures) -> None:
    """Kill runs at random moments, several times each."""
    argv = arguments(folder, *SETTINGS, *RICH)
    begin = time.monotonic()
    untouched(argv, folder / "untouched-rich", folder / "steps.txt")
    seconds, out = time.monotonic() - begin, folder / "killed"
    while figures.kills["random"] < kills:
        for _ in range(KILLS_A_RUN):
            moment = dice.uniform(0.1, 1.1) * seconds
            status = fork(lambda: train(argv, out, resume=True), kill_after=moment)
            figures.kills["random"] += os.WIFSIGNALED(status)
            look(out, figures)
        finish(argv, out, folder / "untouched-rich", "after random moments", figures)


def arguments(folder: Path, *more: str) -> list[str]:
    """A command line without --output_dir; the base model is made in a separate process."""
    if not (folder / "base").exists():
        from helpers.training_runs import short_run

        fork(lambda: short_run(folder, *more))
    from helpers.training_runs import short_run

    argv = short_run(folder, *more)
    index = argv.index("--output_dir")
    return argv[:index] + argv[index + 2 :]


def untouched(argv: list[str], out: Path, steps: Path) -> list[str]:
    """Run to the end without a kill; returns the steps of its saves."""
    status = fork(lambda: train(argv, out, record=steps))
    assert status == 0, f"the untouched run ended with {status}"
    return steps.read_text().split()


def finish(argv: list[str], out: Path, untouched_out: Path, when: str, figures: Figures) -> None:
    """Resume a killed run to its end, compare its files, and remove it."""
    figures.runs += 1
    status = fork(lambda: train(argv, out, resume=True))
    left = [str(path.relative_to(out)) for path in out.rglob(".*")]
    figures.faults += [f"{name} was left behind {when}" for name in left]
    different = [name for name, content in results(untouched_out).items() if results(out).get(name) != content]
    figures.equal += status == 0 and not different
    if status != 0:
        figures.faults.append(f"the run was not resumed {when}")
    figures.faults += [f"{name} differs {when}" for name in different]
    shutil.rmtree(out)
    if figures.runs % 20 == 0:
        runs.say(f"{sum(figures.kills.values())} kills, {len(figures.faults)} faults")


def results(out: Path) -> dict[str, object]:
    """What must be equal of a run: the bytes of its files, its figures except seconds, the points of its log."""
    chosen = [*out.glob("learned_embeds*"), *out.glob("samples/*"), out / "config.yaml"]
    found: dict[str, object] = {str(path.relative_to(out)): path.read_bytes() for path in chosen}
    figures = json.loads((out / "run.json").read_text())["figures"]
    found["figures"] = {name: value for name, value in figures.items() if name != "seconds"}
    found["log"] = log_points(out)
    return found


def log_points(out: Path) -> list[tuple]:
    """(tag, step, value) of every scalar that VisualDL shows for a run."""
    logs = sorted(out.glob("logs/vdlrecords*"))
    if not logs:
        return []
    from visualdl import LogReader

    reader = LogReader(file_path=str(logs[-1]))
    return [
        (tag, point.id, point.value)
        for tag in sorted(reader.get_tags().get("scalar", ()))
        for point in reader.get_data("scalar", tag)
    ]


def look(out: Path, figures: Figures) -> None:
    """Open every file with a final name."""
    for path in sorted(out.rglob("*")) if out.exists() else ():
        if path.is_dir() or any(part.startswith(".") for part in path.relative_to(out).parts):
            continue
        figures.opened += 1
        try:
            opener_of(path)(path)
        except Exception as error:
            figures.faults.append(f"{path.relative_to(out)} is not whole: {error}")


def opener_of(path: Path) -> Callable:
    """The function that reads a file of this kind."""
    from PIL import Image

    from textual_inversion.formats.embedding_file import read_embeddings
    from textual_inversion.training import checkpoints

    if path.parent.name.startswith("checkpoint-"):
        return lambda file: checkpoints.read(file.parent)
    openers = {
        ".pdparams": read_embeddings,
        ".safetensors": read_embeddings,
        ".json": lambda file: json.loads(file.read_text()),
        ".png": lambda file: Image.open(file).load(),
    }
    return openers.get(path.suffix, Path.read_bytes)


def train(argv, out: Path, *, resume: bool = False, kill_at: int | None = None, record: Path | None = None) -> None:
    """The training command in this process.

    Args:
        kill_at: end by SIGKILL before this step of its saves, counted from 0.
        record: file that gets the names of the steps.
    """
    import train_textual_inversion
    from textual_inversion.system import atomic
    from textual_inversion.training import figures_file

    figures_file._UPDATE_SHARE = 0  # written at every figure: the steps of the saves must not depend on the clock
    steps: list[str] = []

    def step(name: str) -> None:
        if len(steps) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        steps.append(name)

    atomic._step = step
    resuming = ["--resume_from_checkpoint", "latest"] if resume else []
    train_textual_inversion.main([*argv, "--output_dir", str(out), *resuming])
    if record is not None:
        record.write_text("\n".join(steps))


def fork(work: Callable[[], object], kill_after: float | None = None) -> int:
    """Do the work in a child, which may be killed after some seconds; returns the status from `waitpid`."""
    child = os.fork()
    if child == 0:
        status = 1
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            with contextlib.suppress(BaseException):
                work()
                status = 0
        os._exit(status)
    if kill_after is not None:
        time.sleep(kill_after)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)  # not yet waited for, so the number is still its own
    return os.waitpid(child, 0)[1]


if __name__ == "__main__":
    run_command(main)
