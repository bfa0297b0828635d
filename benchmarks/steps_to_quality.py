"""How many optimizer steps, and seconds, several recipes need to learn the demo's concepts.

    python benchmarks/steps_to_quality.py --seeds 5 --variant demo: "slower:--learning_rate 0.01"

A recipe is a name and flags of the training command. All recipes are compared with the first one. Each learns both
held-out toys and the style, from several seeds. The vectors are saved every few steps and scored as `score.py` scores
them: how far the images of the plain prompt have come from the likeness of the initializer word (0) to the best
possible (1). A score is reached when two saves in a row have it; of what comes later, only the last save is scored.
Between two saves the curve is a straight line. 90 % and 99 % refer to the first recipe's final score, the median over
its seeds, so a recipe that ends lower gains nothing by that. The loss on the fixed set is a cheaper measure: the
share of the first recipe's fall, on the same seed.

Scoring takes most of the time; `--measure loss` leaves it out. Runs and scores are kept in the work folder. `--reuse`
takes them from there where all settings are the same, including the demo's defaults.
"""

import json
import math
import shlex
import shutil
import statistics
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import runs, tables  # noqa: E402
from benchmarks.learning_curves import NEVER, Course, Curve, as_shares, seconds_at, steps_until  # noqa: E402
from benchmarks.machine import ROOT  # noqa: E402
from textual_inversion.cli.parser import OneLineParser  # noqa: E402
from textual_inversion.cli.train import parse  # noqa: E402
from textual_inversion.settings.bounds import positive_int  # noqa: E402
from textual_inversion.settings.flag import values_of  # noqa: E402
from textual_inversion.system.errors import SettingsError, run_command  # noqa: E402

# Concept -> (folder of its images, what is learned from them).
CONCEPTS = {
    "cat": ("cat_toy_images", "object"),
    "rabbit": ("demo/rabbit_toy_images", "object"),
    "style": ("demo/style_images", "style"),
}
SHARES = (0.9, 0.99)
MEASURES = ("score", "loss")


@dataclass(frozen=True)
class Variant:
    """A recipe: flags of the training command under a name."""

    name: str
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """One run: a recipe, a concept, a seed, and how often it saves."""

    variant: Variant
    concept: str
    seed: int
    steps: int
    every: int
    threads: int | None

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.variant.name}-{self.concept}-{self.seed}"


def variant(text: str) -> Variant:
    """Parse `name:flags` of the command line; raises SettingsError."""
    name, colon, words = text.partition(":")
    if not colon or not name.replace("-", "").replace("_", "").isalnum():
        raise SettingsError(
            f"--variant {text}: write a name, a colon and flags, such as 'cosine:--lr_scheduler cosine'"
        )
    return Variant(name, tuple(shlex.split(words)))


def build_parser() -> OneLineParser:
    """The command's flags."""
    parser = OneLineParser(prog="steps_to_quality.py", description="Steps until the demo's concepts are learned.")
    flag = parser.add_argument
    flag(
        "--variant",
        nargs="+",
        default=["plain:"],
        metavar="NAME:FLAGS",
        help="recipes; the others are compared with the first",
    )
    flag("--concept", nargs="+", choices=CONCEPTS, default=list(CONCEPTS))
    flag("--seeds", type=positive_int, default=5, help="seeds 1, 2, …")
    flag("--steps", type=positive_int, default=200, help="optimizer steps of each run")
    flag("--every", type=positive_int, default=10, help="steps between saves, scores and losses")
    flag("--measure", nargs="+", choices=MEASURES, default=list(MEASURES))
    flag("--num_images", type=positive_int, default=14, help="images scored for each save")
    flag("--num_inference_steps", type=positive_int, help="of these images; unset: the demo's own")
    flag("--jobs", type=positive_int, default=1, help="training runs at a time; several have one thread each")
    flag("--reuse", action="store_true", help="reuse earlier runs and scores with the same settings")
    runs.add_work_dir(flag)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = build_parser().parse_args(argv)
    variants = [variant(text) for text in args.variant]
    threads = 1 if args.jobs > 1 else None
    jobs = [
        Job(v, concept, seed, args.steps, args.every, threads)
        for v in variants
        for concept in args.concept
        for seed in range(1, args.seeds + 1)
    ]
    place = args.work_dir / "quality"
    with ThreadPoolExecutor(args.jobs) as pool:
        courses = dict(zip(jobs, pool.map(lambda job: train(job, place, args.reuse), jobs), strict=True))
    if "score" in args.measure:
        add_scores(courses, place, args)
    parts, targets = [], []
    for measure in args.measure:
        results = results_of(courses, variants, args.concept, measure)
        parts += [f"**By the {_WORDS[measure]}**", results_table(results, variants, args.concept)]
        targets += targets_of(results, variants, args.concept, measure)
    title = f"Steps to quality, {args.seeds} seed(s), {args.steps} steps"
    print(tables.section(title, recipes_table(variants), *parts, tables.targets_table(targets)))


_WORDS = {"score": "score", "loss": "loss on the fixed set"}

# ------------------------------------------------------------------------------------------------------- training


def train(job: Job, place: Path, reuse: bool) -> Course:
    """Train, or reuse the results of an earlier run with the same settings."""
    folder = place / job.name
    kept, settings = folder / "course.json", _settings(job)
    if reuse and kept.is_file():
        found = json.loads(kept.read_text())
        if found["settings"] == settings:
            return Course(_pairs(found["loss"]), [], found["step_seconds"])
    shutil.rmtree(folder, ignore_errors=True)  # saves and scores of other settings
    runs.say(f"training {job.name}")
    record = runs.record(training_flags(job, folder / "out"), folder, instruments=["--only_training"])[0]
    figures = json.loads((folder / "out/run.json").read_text())["figures"]
    course = Course(
        loss=sorted((int(step), loss) for step, loss in figures["fixed_set_loss"].items()),
        score=[],
        step_seconds=[computed - begin for begin, computed, _ in record["steps"]],
    )
    kept.write_text(json.dumps({"settings": settings, "loss": course.loss, "step_seconds": course.step_seconds}))
    return course


def training_flags(job: Job, output: Path) -> list[str]:
    """The flags of the training command; the recipe's own come last and so take precedence."""
    pictures, kind = CONCEPTS[job.concept]
    plain = {
        "train_data_dir": ROOT / pictures,
        "learnable_property": kind,
        "placeholder_token": "<new>",
        "output_dir": output,
        "max_train_steps": job.steps,
        "save_steps": job.every,
        "eval_steps": job.every,
        "only_save_embeds": True,
        "report_to": "none",
        "seed": job.seed,
        "num_threads": job.threads,
    }
    return [*runs.flags(plain), *job.variant.flags]


def _settings(job: Job) -> dict:
    """Everything that the course and the times of the run depend on, by name."""
    config = parse(training_flags(job, Path("out")))
    settings = values_of(config) | {"demo": config.demo, "validation_prompts": config.validation_prompts}
    return {name: str(value) for name, value in sorted(settings.items())}


def _pairs(values) -> Curve:
    return [(int(step), value) for step, value in values]


# -------------------------------------------------------------------------------------------------------- scoring


def add_scores(courses: dict[Job, Course], place: Path, args) -> None:
    """Score the saves that decide when a share is reached; each score is written at once.

    The last save of each run comes first, because it tells what the first recipe ends with. Then each run's saves are
    scored from the beginning, up to the one that settles the last share: later ones would change nothing.
    """
    from textual_inversion.system.environment import prepare_environment

    prepare_environment()
    from benchmarks.concept_score import ConceptScorer

    scorers: dict[str, ConceptScorer] = {}

    def scorer(concept: str) -> ConceptScorer:
        if concept not in scorers:
            shared = next(iter(scorers.values()), None)
            scorers[concept] = ConceptScorer(*CONCEPTS[concept], args.num_images, args.num_inference_steps, shared)
        return scorers[concept]

    settings = [args.num_images, args.num_inference_steps]
    runs_scores = {
        job: Scores(place / job.name, settings, args.reuse, lambda path, job=job: scorer(job.concept)(path))
        for job in courses
    }
    reference = next(iter(courses)).variant
    for concept in args.concept:
        own = {job: scores for job, scores in runs_scores.items() if job.concept == concept}
        final = statistics.median(scores[scores.steps[-1]] for job, scores in own.items() if job.variant == reference)
        for job, scores in own.items():
            courses[job].score = scores.until(max(SHARES) * final)


class Scores:
    """Scores of one run's saves, each computed when first asked for and kept beside the run.

    Args:
        folder: of the run.
        settings: a kept score is used only if it was computed with these.
        reuse: use the scores that an earlier call kept.
        score: computes the score of an embedding file.

    Attributes:
        steps: of the saves, in order.
    """

    def __init__(self, folder: Path, settings: list, reuse: bool, score: Callable[[Path], float]):
        self._kept, self._settings, self._score = folder / "scores.json", settings, score
        self._name, self._paths = folder.name, dict(saves(folder / "out"))
        self.steps = list(self._paths)
        found = json.loads(self._kept.read_text()) if reuse and self._kept.is_file() else {}
        self._found = dict(_pairs(found["scores"])) if found.get("settings") == settings else {}

    def __getitem__(self, step: int) -> float:
        if step not in self._found:
            runs.say(f"scoring {self._name} after step {step}")
            self._found[step] = self._score(self._paths[step])
            kept = {"settings": self._settings, "scores": sorted(self._found.items())}
            self._kept.write_text(json.dumps(kept))
        return self._found[step]

    def until(self, wanted: float) -> Curve:
        """The curve from 0 on, up to the second save in a row that has a score, and the last save."""
        curve: Curve = [(0, 0.0)]
        for step in self.steps:
            curve.append((step, self[step]))
            if min(value for _, value in curve[-2:]) >= wanted:
                break
        last = self.steps[-1]
        return curve if curve[-1][0] == last else [*curve, (last, self[last])]


def saves(folder: Path) -> list[tuple[int, Path]]:
    """(step, file) of every save of a run, in order."""
    found = folder.glob("learned_embeds-steps-*.pdparams")
    return sorted((int(path.stem.rpartition("-")[2]), path) for path in found)


# ------------------------------------------------------------------------------------------------------- reckoning


@dataclass(frozen=True)
class Result:
    """A recipe on a concept: medians over its seeds, infinite where most seeds never reach the share.

    Attributes:
        final: the last value.
        steps, seconds: share -> until it is reached.
    """

    final: float
    steps: dict[float, float]
    seconds: dict[float, float]


def results_of(courses: dict[Job, Course], variants: Sequence[Variant], concepts, measure: str) -> dict:
    """(recipe's name, concept) -> `Result`."""
    found = {}
    for concept in concepts:
        own = {job: course for job, course in courses.items() if job.concept == concept}
        shares = as_shares(own, lambda job: job.variant == variants[0], measure)
        for v in variants:
            mine = [job for job in courses if job.variant == v and job.concept == concept]
            reached = {s: [steps_until(shares[job], s) for job in mine] for s in SHARES}
            seconds = {
                s: [seconds_at(courses[job].step_seconds, steps) for job, steps in zip(mine, reached[s], strict=True)]
                for s in SHARES
            }
            final = statistics.median(getattr(courses[job], measure)[-1][1] for job in mine)
            found[v.name, concept] = Result(final, _medians(reached), _medians(seconds))
    return found


def _medians(values: dict[float, list[float]]) -> dict[float, float]:
    return {share: statistics.median(each) for share, each in values.items()}


def mean_ratio(results: dict, name: str, reference: str, concepts, share: float) -> float | None:
    """Steps of a recipe / steps of the reference, geometric mean over the concepts; None if one is never reached."""
    ratios = [results[name, c].steps[share] / results[reference, c].steps[share] for c in concepts]
    if not all(0 < ratio < NEVER for ratio in ratios):
        return None
    return math.exp(statistics.fmean(map(math.log, ratios)))


def recipes_table(variants: Sequence[Variant]) -> str:
    """The flags of each recipe."""
    rows = [(v.name, f"`{shlex.join(v.flags)}`" if v.flags else "the defaults") for v in variants]
    return tables.table(("recipe", "flags"), rows)


def results_table(results: dict, variants: Sequence[Variant], concepts) -> str:
    """A line per recipe and concept."""
    rows = []
    for v in variants:
        for concept in concepts:
            result, base = results[v.name, concept], results[variants[0].name, concept]
            cells = [tables.number(result.final)]
            for share in SHARES:
                of = tables.ratio(result.steps[share], base.steps[share])
                shown = tables.times(of) if of is not None and 0 < of < NEVER else tables.MISSING
                cells += [_or_never(result.steps[share], tables.number), shown]
                cells.append(_or_never(result.seconds[share], tables.seconds))
            rows.append((v.name, concept, *cells))
    head = ["recipe", "concept", "final"]
    for share in SHARES:
        head += [f"steps to {share:.0%}", "of the first recipe's", f"seconds to {share:.0%}"]
    return tables.table(head, rows)


def _or_never(value: float, show) -> str:
    return "never" if math.isinf(value) else show(value)


def targets_of(results: dict, variants: Sequence[Variant], concepts, measure: str) -> list[tables.Target]:
    """Every other recipe should need half the steps of the first one."""
    return [
        tables.Target(
            f"{v.name}: steps to {share:.0%} by the {_WORDS[measure]}, of {variants[0].name}'s, mean of the concepts",
            mean_ratio(results, v.name, variants[0].name, concepts, share),
            0.5,
        )
        for v in variants[1:]
        for share in SHARES
    ]


if __name__ == "__main__":
    run_command(main)
