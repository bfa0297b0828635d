"""Several processes: do they learn the same embedding as one, and how many more samples a second do they train?

    python benchmarks/scaling.py

The same global batch is cut into 1 process x 4 accumulated micro-batches, 2 x 2 and 4 x 1, on the demo model, with
mirrored images, buckets and captions; the learned vectors are compared. Then one process with one thread is compared
with two, in turns; each process has the same batch size.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import runs, tables  # noqa: E402
from textual_inversion.cli.parser import OneLineParser, demo_defaults  # noqa: E402
from textual_inversion.settings.bounds import positive_int  # noqa: E402
from textual_inversion.system.errors import run_command  # noqa: E402
from textual_inversion.system.paths import DEMO_MODEL, ROOT  # noqa: E402

CUTS = ((1, 4), (2, 2), (4, 1))  # (processes, accumulated micro-batches)
_CAPTIONS = ("a photo of a <new> in the snow", "a close-up photo of a <new>")


@dataclass(frozen=True)
class Case:
    """Settings under which the cuts should agree."""

    name: str
    settings: dict


_EVERYTHING = {"flip_p": 0.5, "resize_mode": "bucket"}  # and captions, which lie beside the images
CASES = (
    Case("one vector, flips, captions", {"flip_p": 0.5}),
    Case("one vector, flips, captions, buckets", _EVERYTHING),
    Case("three vectors, flips, captions, buckets", _EVERYTHING | {"num_vectors": 3}),
)


def build_parser() -> OneLineParser:
    """The command's flags."""
    parser = OneLineParser(prog="scaling.py", description="Compare one process with several.")
    parser.add_argument("--model", default=str(DEMO_MODEL), help="base model")
    parser.add_argument("--steps", type=positive_int, default=50, help="optimizer steps before vectors are compared")
    parser.add_argument("--batch_size", type=positive_int, default=1, help="of each micro-batch there")
    parser.add_argument("--timed_steps", type=positive_int, default=20, help="optimizer steps of each timed run")
    parser.add_argument("--timed_batch_size", type=positive_int, default=4, help="samples per process there")
    parser.add_argument("--rounds", type=positive_int, default=3, help="timed runs of each kind, in turns")
    parser.add_argument("--part", choices=("agreement", "throughput"), nargs="+", default=["agreement", "throughput"])
    runs.add_work_dir(parser.add_argument)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = build_parser().parse_args(argv)
    parts, targets = [], []
    if "agreement" in args.part:
        differences = {case.name: agreement(args, case) for case in CASES}
        parts.append(agreement_table(differences))
        largest = max(max(by_cut.values()) for by_cut in differences.values())
        targets.append(tables.Target(f"largest difference after {args.steps} steps", largest, 1e-5))
    if "throughput" in args.part:
        speeds = throughput(args)
        parts.append(throughput_table(speeds))
        gain = tables.ratio(tables.median(speeds[2]), tables.median(speeds[1]))
        targets.append(tables.Target("samples per second, 2 processes over 1", gain, 1.7, at_least=True))
    print(tables.section("Several processes", *parts, tables.targets_table(targets)))


# ----------------------------------------------------------------------------------------------------- agreement


def agreement(args, case: Case) -> dict[tuple[int, int], float]:
    """(processes, accumulation) -> largest difference of its vectors from those of the first cut."""
    learned = {cut: _learn(args, case, *cut) for cut in CUTS}
    return {cut: float(np.abs(rows - learned[CUTS[0]]).max()) for cut, rows in learned.items()}


def _learn(args, case: Case, processes: int, accumulation: int) -> np.ndarray:
    from textual_inversion.formats.embedding_file import read_embeddings

    runs.say(f"agreement, {case.name}: {processes} process(es) x {accumulation}")
    folder = args.work_dir / "scaling"
    output = folder / f"out-{processes}x{accumulation}"
    pictures = make_pictures(folder / "pictures")
    rate = demo_defaults()["learning_rate"]  # differences grow with it
    settings = {"learning_rate": rate, "train_batch_size": args.batch_size, "num_threads": 1} | case.settings
    settings["gradient_accumulation_steps"] = accumulation
    settings["placeholder_token"] = "<new>"
    arguments = runs.quiet_training(args.model, pictures, output, args.steps, **settings)
    runs.record(arguments, folder / "record", processes=processes, instruments=["--only_training"])
    (concept,) = read_embeddings(output / "learned_embeds.pdparams")
    return np.concatenate(list(concept.vectors.values()))


def make_pictures(folder: Path) -> Path:
    """The demo's toy in three shapes, some of the images with captions."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    shapes = ((512, 512), (512, 384), (384, 512))
    for number, source in enumerate(sorted((ROOT / "cat_toy_images").glob("*.png"))):
        width, height = shapes[number % len(shapes)]
        with Image.open(source) as image:
            scale = image.width / 512
            image.crop((0, 0, round(width * scale), round(height * scale))).save(folder / f"{number}.png")
        if number < len(_CAPTIONS):
            (folder / f"{number}.txt").write_text(_CAPTIONS[number] + "\n", encoding="utf-8")
    return folder


def agreement_table(differences: dict[str, dict[tuple[int, int], float]]) -> str:
    """Largest absolute difference between a value of the vectors and that of 1 process x 4."""
    head = ("largest difference in the learned rows", *(f"{p} x {a}" for p, a in CUTS))
    return tables.table(head, [(name, *(f"{d:.1e}" for d in by.values())) for name, by in differences.items()])


# ---------------------------------------------------------------------------------------------------- throughput


def throughput(args) -> dict[int, list[float]]:
    """Processes, each with one thread -> samples per second of each round."""
    speeds: dict[int, list[float]] = {1: [], 2: []}
    for number in range(args.rounds):
        for processes in speeds:
            runs.say(f"throughput, round {number + 1}: {processes} process(es)")
            arguments = runs.quiet_training(
                args.model,
                ROOT / "cat_toy_images",
                args.work_dir / "scaling/out",
                args.timed_steps,
                train_batch_size=args.timed_batch_size,
                num_threads=1,
            )
            folder = args.work_dir / "scaling/record"
            records = runs.record(arguments, folder, processes=processes, instruments=["--only_training"])
            speeds[processes].append(samples_per_second(records, args.timed_batch_size))
    return speeds


def samples_per_second(records: list[dict], batch_size: int, warm_up: int = 2) -> float:
    """Samples of all processes a second, from the first step that counts to the end of the last one.

    Raises:
        BenchmarkError: there are no steps after the warm-up.
    """
    counted = [record["steps"][warm_up:] for record in records]
    if not all(counted):
        raise runs.BenchmarkError(f"no steps are left to time after {warm_up} of warm-up; take more")
    begin = min(steps[0][0] for steps in counted)
    end = max(steps[-1][2] for steps in counted)
    return sum(map(len, counted)) * batch_size / (end - begin)


def throughput_table(speeds: dict[int, list[float]]) -> str:
    """Samples per second by number of processes, and the gain over one."""
    base = tables.median(speeds[1])
    rows = []
    for processes, values in speeds.items():
        low, high = tables.number(min(values)), tables.number(max(values))
        gain = tables.times(tables.ratio(tables.median(values), base))
        rows.append((f"{processes}, one thread each", tables.number(tables.median(values)), f"{low} – {high}", gain))
    return tables.table(("processes", "samples per second, median", "least – most", "gain"), rows)


if __name__ == "__main__":
    run_command(main)
