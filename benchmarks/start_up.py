"""What a user waits for besides training: answers of the commands, the first step, and the rest of the demo.

    python benchmarks/start_up.py

Measured are `--help` and refused arguments of every command, which must not import paddle; the time from calling the
command to the end of the demo's first training step; and the whole demo, with everything but training itemised from
its run.json.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import runs, tables  # noqa: E402
from benchmarks.machine import ROOT  # noqa: E402
from textual_inversion.cli.parser import OneLineParser  # noqa: E402
from textual_inversion.settings.bounds import positive_int  # noqa: E402
from textual_inversion.system.errors import run_command  # noqa: E402

REFUSED = 2  # the exit status
# Command -> arguments that it answers without any work, and the status it answers with.
ANSWERS = {
    "train_textual_inversion.py": (
        (("--help",), 0),
        (("--max_train_steps", "0"), REFUSED),
        (("--learning_rat", "1"), REFUSED),
        (("--placeholder_token", "<a>", "<b>"), REFUSED),
        (("--hub_model_id", "name"), REFUSED),
    ),
    "infer.py": ((("--help",), 0), (("--guidance_scale", "-1"), REFUSED), (("--embeds", "nowhere.pdparams"), REFUSED)),
    "score.py": ((("--help",), 0), (("--num_images", "0"), REFUSED), (("--embeds", "nowhere.pdparams"), REFUSED)),
}
_PARTS = ("answers", "first_step", "demo")


def build_parser() -> OneLineParser:
    """The command's flags."""
    parser = OneLineParser(prog="start_up.py", description="What a user waits for before anything is learned.")
    parser.add_argument("--repeats", type=positive_int, default=5, help="times that each answer is asked for")
    parser.add_argument("--part", choices=_PARTS, nargs="+", default=list(_PARTS))
    parser.add_argument("--flags", default="", help="more of the demo, as --flags='--low_memory'")
    runs.add_work_dir(parser.add_argument)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = build_parser().parse_args(argv)
    parts, targets = [], []
    if "answers" in args.part:
        found = [ask(name, words, status, args.repeats) for name, asked in ANSWERS.items() for words, status in asked]
        parts.append(answers_table(found))
        targets.append(tables.Target("slowest answer, s", max(answer["seconds"] for answer in found), 0.5))
        targets.append(tables.Target("answers that import paddle", sum(a["imports_paddle"] for a in found), 0))
    if "first_step" in args.part:
        record = first_step(args)
        parts.append(first_step_table(record))
        targets.append(tables.Target("from command to first training step, s", until_first_step(record), 10.0))
    if "demo" in args.part:
        seconds, phases = demo(args)
        parts.append(demo_table(seconds, phases))
        targets.append(tables.Target("the demo, from command to its last line, s", seconds, 180.0))
        targets.append(tables.Target("of which not training, s", seconds - phases["training"], 60.0))
    print(tables.section("Start-up and the demo", *parts, tables.targets_table(targets)))


# ------------------------------------------------------------------------------------------------------- answers


def ask(name: str, words: tuple[str, ...], status: int, repeats: int) -> dict:
    """How long a command takes to answer, and whether it imports paddle.

    Raises:
        BenchmarkError: it ends with another status.
    """
    command = [sys.executable, str(ROOT / name), *words]
    times = []
    for _ in range(repeats):
        begin = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        times.append(time.monotonic() - begin)
        if done.returncode != status:
            raise runs.BenchmarkError(f"{name} {' '.join(words)} ended with {done.returncode}: {done.stderr[-500:]}")
    traced = [sys.executable, "-X", "importtime", *command[1:]]
    imports = subprocess.run(traced, capture_output=True, text=True, cwd=ROOT).stderr
    return {"command": f"{name} {' '.join(words)}", "seconds": tables.median(times), "imports_paddle": holds(imports)}


def holds(imports: str, package: str = "paddle") -> bool:
    """Whether the output of `-X importtime` names a package or one of its modules."""
    modules = (line.rpartition("|")[2].strip() for line in imports.splitlines() if line.startswith("import time:"))
    return any(name == package or name.startswith(f"{package}.") for name in modules)


def answers_table(found: list[dict]) -> str:
    """A line per call."""
    said = {True: "yes", False: "no"}
    rows = [(f"`{a['command']}`", tables.seconds(a["seconds"]), said[a["imports_paddle"]]) for a in found]
    return tables.table(("call", "answers in, median", "imports paddle"), rows)


# ----------------------------------------------------------------------------------------------------- first step


def first_step(args) -> dict:
    """The record of the demo's first steps."""
    runs.say("start-up: the demo's first steps")
    words = runs.flags({"output_dir": args.work_dir / "first-step-out", "max_train_steps": 2})
    # What comes after training is of no interest here, and the demo draws for longer than two steps take.
    return runs.record([*words, *args.flags.split()], args.work_dir / "first-step", instruments=["--only_training"])[0]


def until_first_step(record: dict) -> float:
    """Seconds from calling the command to the end of its first optimizer step."""
    return record["steps"][0][1] - record["launched"]


def first_step_table(record: dict) -> str:
    """What happens between the call and the first step, in order."""
    begin, first_end = record["launched"], record["steps"][0][1]
    rows = [("Python, and the command's own modules", record["begin"] - begin)]
    for phase in record["phases"]:
        if phase["name"] not in ("", "training") and phase["end"] <= first_end:
            rows.append((phase["name"], phase["end"] - phase["begin"]))
    rows.append(("training: what is done before the first step", record["steps"][0][0] - _training_begins(record)))
    rows.append(("training: the first step", first_end - record["steps"][0][0]))
    rows.append(("anything else", first_end - begin - sum(seconds for _, seconds in rows)))
    rows.append(("**in all**", first_end - begin))
    return tables.table(("from command to first training step", ""), [(n, tables.seconds(s)) for n, s in rows])


def _training_begins(record: dict) -> float:
    return next(phase["begin"] for phase in record["phases"] if phase["name"] == "training")


# ----------------------------------------------------------------------------------------------------------- demo


def demo(args) -> tuple[float, dict[str, float]]:
    """Seconds of the whole demo, and of each phase according to its run.json."""
    runs.say("start-up: the whole demo")
    output = args.work_dir / "demo-out"
    command = [sys.executable, ROOT / "train_textual_inversion.py", "--output_dir", output, *args.flags.split()]
    seconds = runs.run(command, log=args.work_dir / "demo.log")
    return seconds, json.loads((output / "run.json").read_text())["figures"]["seconds"]


def demo_table(seconds: float, phases: dict[str, float]) -> str:
    """Where the demo's time goes; what is in no phase is the start and the end of Python."""
    rows = [(name, value, value / seconds) for name, value in phases.items()]
    rest = seconds - sum(phases.values())
    rows.append(("beginning and end of the process", rest, rest / seconds))
    aside = seconds - phases["training"]
    rows.append(("**all but training**", aside, aside / seconds))
    rows.append(("**in all**", seconds, 1.0))
    shown = [(name, tables.seconds(value), f"{100 * share:.0f} %") for name, value, share in rows]
    return tables.table(("the demo", "", "share"), shown)


if __name__ == "__main__":
    run_command(main)
