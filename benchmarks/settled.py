"""Whether `--stop_when_settled` ends a run that is too long in time, and what that costs.

    python benchmarks/settled.py --seeds 5

Each of the demo's concepts is learned twice from each seed, with twice the demo's own steps: to the end, and until the
loss on the fixed set has settled. Both embeddings are scored as `score.py` scores them: how far the images of the plain
prompt have come from the likeness of the initializer word (0) to the best possible (1).
"""

import json
import math
import shutil
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import runs, tables  # noqa: E402
from benchmarks.machine import ROOT  # noqa: E402
from benchmarks.steps_to_quality import CONCEPTS  # noqa: E402
from textual_inversion.cli.parser import OneLineParser  # noqa: E402
from textual_inversion.settings.bounds import positive_int  # noqa: E402
from textual_inversion.system.errors import run_command  # noqa: E402

FINAL = "learned_embeds.pdparams"


def build_parser() -> OneLineParser:
    """The command's flags."""
    parser = OneLineParser(prog="settled.py", description="Steps saved by --stop_when_settled, and the score lost.")
    flag = parser.add_argument
    flag("--concept", nargs="+", choices=CONCEPTS, default=list(CONCEPTS))
    flag("--seeds", type=positive_int, default=5, help="seeds 1, 2, …")
    flag("--steps", type=positive_int, default=200, help="optimizer steps of a run that is too long")
    flag("--every", type=positive_int, default=10, help="steps between looks at the fixed set")
    flag("--patience", type=positive_int, default=4, help="looks in each of the two windows")
    flag("--num_images", type=positive_int, default=14, help="images scored for each embedding")
    flag("--num_inference_steps", type=positive_int, help="of these images; unset: the demo's own")
    runs.add_work_dir(flag)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = build_parser().parse_args(argv)
    jobs = [(concept, seed) for concept in args.concept for seed in range(1, args.seeds + 1)]
    folders = {job: args.work_dir / "settled" / f"{job[0]}-{job[1]}" for job in jobs}
    for job, folder in folders.items():
        train(*job, folder / "long", args, [])
        train(*job, folder / "settled", args, ["--stop_when_settled", "--patience", str(args.patience)])
    ends = {job: end_of(folder / "settled") for job, folder in folders.items()}
    scores = score(folders, args)
    title = f"Runs that end when the loss has settled, {args.seeds} seed(s), {args.steps} steps at the most"
    print(tables.section(title, results_table(args, ends, scores), tables.targets_table(targets(args, ends, scores))))


def train(concept: str, seed: int, folder: Path, args, more: list[str]) -> None:
    """Train a concept with nothing drawn or saved but its embedding."""
    shutil.rmtree(folder, ignore_errors=True)
    images, kind = CONCEPTS[concept]
    runs.say(f"training {folder.parent.name}, {folder.name}")
    plain = {
        "train_data_dir": ROOT / images,
        "learnable_property": kind,
        "placeholder_token": "<new>",
        "output_dir": folder,
        "max_train_steps": args.steps,
        "eval_steps": args.every,
        "save_steps": 10**6,
        "only_save_embeds": True,
        "report_to": "none",
        "seed": seed,
        "overview": "false",
    }
    runs.run([sys.executable, ROOT / "train_textual_inversion.py", *runs.flags(plain), *more])


def end_of(folder: Path) -> int:
    """The last step of a run."""
    figures = json.loads((folder / "run.json").read_text())["figures"]
    return max(map(int, figures["fixed_set_loss"]))


def score(folders: dict, args) -> dict:
    """(concept, seed) -> (score of the run to the end, score of the run that settled)."""
    from textual_inversion.system.environment import prepare_environment

    prepare_environment()
    from benchmarks.concept_score import ConceptScorer

    scorers, found = {}, {}
    for job, folder in folders.items():
        if job[0] not in scorers:
            shared = next(iter(scorers.values()), None)
            scorers[job[0]] = ConceptScorer(*CONCEPTS[job[0]], args.num_images, args.num_inference_steps, shared)
        runs.say(f"scoring {folder.name}")
        found[job] = tuple(scorers[job[0]](folder / name / FINAL) for name in ("long", "settled"))
    return found


def results_table(args, ends: dict, scores: dict) -> str:
    """A line per concept: medians over the seeds, and the mean change of the score with its standard error."""
    rows = []
    for concept in args.concept:
        own = [job for job in ends if job[0] == concept]
        long, settled = zip(*(scores[job] for job in own), strict=True)
        steps = statistics.median(ends[job] for job in own)
        mean, error = change(scores, own)
        rows.append((
            concept, tables.number(steps), f"{1 - steps / args.steps:.0%}", tables.number(statistics.median(long)),
            tables.number(statistics.median(settled)), f"{mean:+.3f}" + ("" if error is None else f" ± {error:.3f}"),
        ))  # fmt: skip
    return tables.table(
        ("concept", "steps until it settled", "saved", "score to the end", "score settled", "change"), rows
    )


def change(scores: dict, jobs: list) -> tuple[float, float | None]:
    """Mean of what the score gained by ending early, over runs of the same seeds, and its standard error."""
    gained = [scores[job][1] - scores[job][0] for job in jobs]
    error = statistics.stdev(gained) / math.sqrt(len(gained)) if len(gained) > 1 else None
    return statistics.fmean(gained), error


def targets(args, ends: dict, scores: dict) -> list[tables.Target]:
    """Half of the steps saved, and none of the score lost: what is lost is less than its standard error, twice."""
    share = statistics.fmean(ends.values()) / args.steps
    mean, error = change(scores, list(scores))
    return [
        tables.Target("steps until it settled, of a run twice too long, mean", share, 0.5),
        tables.Target("score lost, less two standard errors, mean", -mean - 2 * (error or 0.0), 0.0),
    ]


if __name__ == "__main__":
    run_command(main)
