"""Iterations per second and memory on a card, in each precision, with and without gradient checkpointing.

    python benchmarks/gpu.py

Each line is a run of the real command at full size, in its own process, at 512 or 768 pixels. Without a card it says
so and measures nothing; `--device cpu` measures what a CPU allows.
"""

import itertools
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import full_size_model, runs, tables  # noqa: E402
from textual_inversion.cli.parser import OneLineParser  # noqa: E402
from textual_inversion.cli.train import build_parser as training_parser  # noqa: E402
from textual_inversion.settings.bounds import natural, positive_int  # noqa: E402
from textual_inversion.system.errors import run_command  # noqa: E402

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}  # name in the table -> value of --mixed_precision
_FLAG = "--mixed_precision"
NO_GPU = (
    "No GPU here, so nothing was measured: {}. On a machine with an NVIDIA card and `requirements-gpu.txt` installed "
    "the same command prints the table."
)


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    resolution: int
    precision: str
    checkpointing: bool


def build_parser() -> OneLineParser:
    """The command's flags."""
    parser = OneLineParser(prog="gpu.py", description="Iterations per second and memory on a card.")
    flag = parser.add_argument
    flag("--size", choices=full_size_model.SIZES, default="full", help="base model")
    flag("--resolution", type=positive_int, nargs="+", default=[512, 768])
    flag("--precision", choices=PRECISIONS, nargs="+", default=list(PRECISIONS))
    flag("--batch_size", type=positive_int, default=1)
    flag("--steps", type=positive_int, default=30, help="optimizer steps that count")
    flag("--warm_up", type=natural, default=5, help="steps before them")
    flag("--flags", default="", help="more of the training command, as --flags='--low_memory'")
    flag("--device", choices=("gpu", "cpu"), default="gpu")
    runs.add_work_dir(flag)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = build_parser().parse_args(argv)
    title = f"On a card, {args.size} size, batch {args.batch_size}"
    reason = None if args.device == "cpu" else why_no_gpu()
    if reason:
        print(tables.section(title, NO_GPU.format(reason)))
        return
    known = knows_mixed_precision()
    rows = [(case, measure(args, case, known)) for case in cases(args.resolution, args.precision)]
    print(tables.section(title, results_table(rows)))


def why_no_gpu() -> str | None:
    """The reason why nothing can be measured on a card; None if it can."""
    from textual_inversion.system.environment import prepare_environment

    prepare_environment()
    import paddle

    built = paddle.is_compiled_with_cuda()
    return no_gpu_reason(built, paddle.device.cuda.device_count() if built else 0)


def no_gpu_reason(built_with_cuda: bool, cards: int) -> str | None:
    """The reason; None if there is a card that paddle can use."""
    if not built_with_cuda:
        return "this paddle is a build for CPUs"
    return None if cards else "paddle sees no card"


def cases(resolutions: list[int], precisions: list[str]) -> list[Case]:
    """All lines of the table, in order."""
    return [Case(*each) for each in itertools.product(resolutions, precisions, (False, True))]


def knows_mixed_precision() -> bool:
    """Whether the training command has the flag."""
    return any(_FLAG in action.option_strings for action in training_parser()._actions)


def arguments(args, case: Case, model: Path, pictures: Path, known: bool) -> list[str] | None:
    """Flags of the training command for a case; None if this version has no such precision.

    Args:
        known: whether the command has `--mixed_precision`; without it there is only float32.
    """
    if not known and PRECISIONS[case.precision] != "no":
        return None
    words = runs.quiet_training(
        model,
        pictures,
        args.work_dir / "gpu-out",
        args.warm_up + args.steps,
        train_batch_size=args.batch_size,
        resolution=case.resolution,
        gradient_checkpointing=case.checkpointing,
        device=args.device,
        mixed_precision=PRECISIONS[case.precision] if known else None,
    )
    return [*words, *args.flags.split()]


def measure(args, case: Case, known: bool) -> tuple[float | None, int | None, str]:
    """(iterations per second, peak bytes of the card's memory, a note)."""
    model = full_size_model.cached(args.work_dir, args.size)
    pictures = runs.draw_images(args.work_dir / "pictures-512")
    words = arguments(args, case, model, pictures, known)
    if words is None:
        return None, None, f"this version has no {_FLAG}"
    runs.say(f"{case}")
    try:
        record = runs.record(words, args.work_dir / "gpu", instruments=["--only_training"])[0]
    except runs.BenchmarkError as error:
        if is_out_of_memory(str(error)):
            return None, None, "out of memory"
        raise
    return iterations_per_second(record["steps"], args.warm_up), record.get("gpu_bytes"), ""


def is_out_of_memory(text: str) -> bool:
    """Whether the end of a run's log says that the card ran out of memory."""
    return "resourceexhausted" in text.lower() or "out of memory" in text.lower()


def iterations_per_second(steps: list, warm_up: int) -> float:
    """Over all steps after the warm-up together: a card works asynchronously, so no single step can be timed.

    The loss is read at the first step and at the last one, which waits for everything before.
    """
    counted = steps[warm_up:]
    return len(counted) / (counted[-1][2] - counted[0][0])


def results_table(rows: list[tuple[Case, tuple]]) -> str:
    """A line per case, with its speed relative to float32 without checkpointing."""
    plain = {
        case.resolution: speed for case, (speed, *_) in rows if case.precision == "fp32" and not case.checkpointing
    }
    lines = []
    for case, (speed, memory, note) in rows:
        gain = tables.times(tables.ratio(speed, plain.get(case.resolution)))
        name = f"{case.resolution}, {case.precision}" + (", checkpointing" if case.checkpointing else "")
        lines.append((name, tables.number(speed), gain, tables.gigabytes(memory), note))
    return tables.table(("", "iterations per second", "of float32's", "card's memory", ""), lines)


if __name__ == "__main__":
    run_command(main)
