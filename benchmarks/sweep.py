"""A search: how long the one of the demo takes, and what is left of one whose command and machines are killed.

    python benchmarks/sweep.py
    python benchmarks/sweep.py --kills 2 --trials 3 --steps 6

First `sweep.py` runs as it comes. Then a search of real trainings is made on a Ray cluster of two machines, once
untouched, and then again while its command (SIGKILL) or one of the machines is killed at random moments; a killed
command is started again with --resume. It must find the same, byte for byte, and must not touch a trial again whose
result was known. A search that ends before enough was killed is followed by another.
"""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[1] / "tests")]

from benchmarks import runs, tables  # noqa: E402
from benchmarks.machine import ROOT  # noqa: E402
from textual_inversion.cli.parser import OneLineParser  # noqa: E402
from textual_inversion.settings.bounds import natural, positive_int  # noqa: E402
from textual_inversion.system.errors import run_command  # noqa: E402

_MOST_SECONDS = 600.0  # wanted of the demo's search
_BEST = Path("best", "learned_embeds.pdparams")
_SPACE = "learning_rate: {log_range: [0.001, 0.1]}\nadam_weight_decay: {range: [0, 1]}\n"
_PAUSES = (3.0, 20.0)  # seconds between a beginning and a kill, or between two kills
_POLL = 0.1


@dataclass
class Killed:
    """What was killed, and what went wrong.

    Attributes:
        kills: "command" and "machine" -> how often.
        searches: brought to their end.
        equal: of them, with the results and the embedding of the untouched one.
        touched: trials that were touched again although their result was known.
        begun: trainings that were begun in all.
        trials: of all searches together.
    """

    kills: Counter = field(default_factory=Counter)
    searches: int = 0
    equal: int = 0
    touched: int = 0
    begun: int = 0
    trials: int = 0

    @property
    def again(self) -> int:
        """Trainings that were begun again."""
        return self.begun - self.trials


def build_parser() -> OneLineParser:
    """The command's flags."""
    parser = OneLineParser(prog="sweep.py", description="What a search takes, and what kills cost it.")
    flag = parser.add_argument
    flag("--kills", type=natural, default=10, metavar="N", help="kills at random moments")
    flag("--trials", type=positive_int, default=8, metavar="N", help="of the searches that are killed")
    flag("--steps", type=positive_int, default=20, metavar="N", help="optimizer steps of each of these trials")
    flag("--seed", type=int, default=0, metavar="N", help="of the random moments")
    flag("--only_kills", action="store_true", help="leave out the demo's own search")
    runs.add_work_dir(flag)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Print the figures; the status is 1 where a killed search found something else."""
    args = build_parser().parse_args(argv)
    work = args.work_dir / "sweep"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    own = None if args.only_kills else of_the_demo(work / "demo")
    killed = all_killed(work, args)
    rows, targets = ([], []) if own is None else own
    rows += [
        ("kills of the command", killed.kills["command"]),
        ("kills of a machine", killed.kills["machine"]),
        ("killed searches, brought to their end", killed.searches),
        ("of these equal to the untouched one", killed.equal),
        ("their trials", killed.trials),
        ("trainings that were begun again", killed.again),
    ]
    targets += [
        tables.Target("killed searches that found something else", killed.searches - killed.equal, 0),
        tables.Target("finished trials that were touched again", killed.touched, 0),
        tables.Target("trainings begun again for each kill", killed.again / max(1, killed.kills.total()), 2),
    ]
    print(tables.section("Searches", tables.table(("searches", ""), rows), tables.targets_table(targets)))
    return 0 if killed.equal == killed.searches and not killed.touched else 1


def of_the_demo(folder: Path) -> tuple[list[tuple], list[tables.Target]]:
    """Rows and targets of `sweep.py` without arguments."""
    runs.say("sweep: the demo's own search")
    begun = time.monotonic()
    words = [sys.executable, str(ROOT / "sweep.py"), "--output_dir", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, env=runs.default_environment(), cwd=ROOT)
    seconds = time.monotonic() - begun
    if done.returncode or not (folder / _BEST).is_file():
        raise runs.BenchmarkError(f"sweep.py ended with status {done.returncode}: {done.stderr[-800:]}")
    trials = _trials(folder)
    scores = sorted(one["results"]["end"]["score"] for one in trials)
    rows = [
        ("trials of the demo's own search", len(trials)),
        ("seconds from the command to its end", tables.seconds(seconds)),
        ("score of the best and of the worst trial", f"{scores[-1]:.3f} – {scores[0]:.3f}"),
    ]
    return rows, [tables.Target("the demo's own search, s", seconds, _MOST_SECONDS)]


def all_killed(work: Path, args) -> Killed:
    """Searches that are killed until there were enough kills, each compared with the untouched one."""
    from helpers.ray_machines import Machines

    (work / "space.yaml").write_text(_SPACE, encoding="utf-8")
    killed, dice, cluster = Killed(), random.Random(args.seed), Machines()
    try:
        runs.say("sweep: the untouched search")
        whole = _Search(work, "untouched", cluster, args)
        whole.end()
        while killed.kills.total() < args.kills:
            search = _Search(work, f"killed-{killed.searches}", cluster, args)
            before = killed.kills.total()
            search.be_killed(dice, killed, args.kills)
            if killed.kills.total() == before:
                raise runs.BenchmarkError("a search ended before anything was killed; ask for more --trials")
            killed.searches += 1
            killed.equal += search.found() == whole.found()
            killed.begun += search.begun()
            killed.trials += args.trials
    finally:
        cluster.close()
    return killed


class _Search:
    """A search of short real trainings on a cluster."""

    def __init__(self, work: Path, name: str, cluster, args):
        self._folder, self._cluster, self._log = work / name, cluster, work / f"{name}.log"
        self._words = [
            "--space", str(work / "space.yaml"), "--metric", "fixed_set_loss", "--method", "tpe",
            "--num_trials", str(args.trials), "--max_train_steps", str(args.steps), "--eval_steps", str(args.steps),
            "--save_steps", "100000", "--checkpointing_steps", "5", "--checkpoints_total_limit", "1",
            "--only_save_embeds", "--max_failures", "100", "--address", cluster.address,
            "--output_dir", str(self._folder),
        ]  # fmt: skip
        self._starts = 0
        self._known: dict[int, int] = {}  # trials with results -> bytes that they had printed when these were known

    def end(self) -> None:
        """Let it run to its end."""
        process = self._start()
        if process.wait():
            raise runs.BenchmarkError(f"a search ended with status {process.returncode}: {self._said()}")

    def be_killed(self, dice: random.Random, killed: Killed, most: int) -> None:
        """Kill the command or a machine at random moments, until there were enough kills or it ends; bring it to its
        end then."""
        process = self._start()
        while killed.kills.total() < most and self._goes_on(process, dice.uniform(*_PAUSES)):
            kind = dice.choice(["command", "machine"])
            killed.kills[kind] += 1
            runs.say(f"sweep: kill {killed.kills.total()} of {most}, {kind}; {len(self._known)} trials are known")
            if kind == "command":
                process.send_signal(signal.SIGKILL)
                process.wait()
                process = self._start()
            else:
                self._cluster.replace()
        if process.wait():  # it was begun again after each kill, so it ended by itself
            raise runs.BenchmarkError(f"a killed search ended with status {process.returncode}: {self._said()}")
        killed.touched += sum(self._printed(number) != size for number, size in self._known.items())

    def found(self) -> tuple:
        """What must be equal: settings and results of all trials, and the bytes of the best embedding."""
        trials = [(one["parameters"], one["results"]) for one in _trials(self._folder)]
        return trials, (self._folder / _BEST).read_bytes()

    def begun(self) -> int:
        """Trainings that were begun."""
        logs = self._folder.glob("trials/*.log")
        return sum(log.read_text(encoding="utf-8", errors="replace").count(" training image(s) of ") for log in logs)

    def _start(self) -> subprocess.Popen:
        again = ["--resume", str(self._folder), "--address", self._cluster.address]
        words = again if (self._folder / "sweep.json").is_file() else self._words
        self._starts += 1
        with open(self._log, "ab") as log:
            return subprocess.Popen([sys.executable, str(ROOT / "sweep.py"), *words], stdout=log, stderr=log,
                                    env=self._cluster.environment, cwd=ROOT)  # fmt: skip

    def _goes_on(self, process: subprocess.Popen, seconds: float) -> bool:
        """Wait from when trials are under way, and see which results are known; whether the command still runs."""
        while process.poll() is None and self._log.read_bytes().count(b" trials by ") < self._starts:
            time.sleep(_POLL)
        end = time.monotonic() + seconds
        while time.monotonic() < end and process.poll() is None:
            time.sleep(_POLL)
            for one in _trials(self._folder):
                if one["results"]:
                    self._known.setdefault(one["number"], self._printed(one["number"]))
        return process.poll() is None

    def _printed(self, number: int) -> int:
        return (self._folder / "trials" / f"{number:03d}.log").stat().st_size

    def _said(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")[-800:]


def _trials(folder: Path) -> list[dict]:
    """What a search knows of its trials so far."""
    path = folder / "trials.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


if __name__ == "__main__":
    run_command(main)
