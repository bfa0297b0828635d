"""The command line of `sweep.py`: from arguments to the plan of a search, and the plan of one that goes on."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from textual_inversion.cli import many_runs, own_flags, space, train
from textual_inversion.cli.parser import OneLineParser, parser_of
from textual_inversion.cluster import metrics
from textual_inversion.cluster.child import Child
from textual_inversion.cluster.halving import rungs
from textual_inversion.cluster.search import TRIALS, SearchPlan, Trial, trials_from
from textual_inversion.cluster.space import MOST_TRIALS, Space, arguments, grid_size
from textual_inversion.settings.choices import GRID, TPE
from textual_inversion.settings.cluster import ClusterSettings
from textual_inversion.settings.sweep import SweepConfig
from textual_inversion.settings.train import TrainConfig
from textual_inversion.system import atomic
from textual_inversion.system.addresses import address_of
from textual_inversion.system.checked_json import whole_number
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.paths import from_root

SCRIPT = "sweep.py"
RECORD = "sweep.json"
_TRIALS = 12
_OF_RUNGS = ("save_steps", "checkpointing_steps", "eval_steps")


class _Entry(TypedDict):
    """A trial as `trials.json` has it."""

    number: whole_number(0, MOST_TRIALS)
    parameters: dict[str, str | list[str] | None]
    status: str
    results: dict[str, dict[str, float | None]]
    failures: whole_number(0, 10**6)
    error: str | None


class _Record(TypedDict):
    """What `sweep.json` holds."""

    format: whole_number(many_runs.FORMAT, many_runs.FORMAT)
    own: list[str]
    training: list[str]
    space: str
    folder: str
    lag: whole_number(1, 10**6)


@dataclass(frozen=True)
class SweepArguments:
    """What a command line says.

    Attributes:
        config: the settings of `sweep.py` itself.
        own, training: the words of its own flags, and those of the training command.
    """

    config: SweepConfig
    own: list[str]
    training: list[str]


@dataclass(frozen=True)
class Sweep:
    """What `sweep.py` is to do.

    Attributes:
        plan: of the search; its lag is 0 where that is to be found when the search begins.
        output: its folder, as an absolute path.
        child: how trials are started.
        cluster: where they run.
        trials: what is known of an earlier part.
        record: what `RECORD` is to hold, but for the lag; None where it is there.
    """

    plan: SearchPlan
    output: Path
    child: Child
    cluster: ClusterSettings
    trials: list[Trial]
    record: dict[str, Any] | None


def build_parser() -> OneLineParser:
    """The parser of the flags that are `sweep.py`'s own."""
    description = (
        "Search for the best settings of a training. All flags of the training command may be given too: they are "
        "those of every trial. Without arguments: a dozen trials of the demo."
    )
    return parser_of(SweepConfig, prog=SCRIPT, description=description)


def parse(argv: Sequence[str] | None = None) -> SweepArguments:
    """What a command line says; no file but those of --config is read.

    Raises:
        SettingsError: a flag is unknown, out of its range, or contradicts another.
    """
    own, training = own_flags.split(sys.argv[1:] if argv is None else argv, build_parser())
    config, given = many_runs.own_settings(own, build_parser(), SweepConfig)
    many_runs.check_beside_resume(config.output.resume, given, training)
    if config.search.metric and len(set(config.search.metric)) < len(config.search.metric):
        raise SettingsError("--metric names a metric twice; keep one of them")
    if config.stopping.asha and len(config.search.metric) > 1:
        raise SettingsError("--asha stops trials by one metric; give --metric one, or leave --asha out")
    for name in ("min_steps", "reduction_factor"):
        if name in given and not config.stopping.asha:
            raise SettingsError(f"--{name} has no effect without --asha; add it, or leave --{name} out")
    training = own_flags.with_configuration(training)
    train.parse(training)
    return SweepArguments(config, own, training)


def prepared(words: SweepArguments) -> Sweep:
    """The search that a command line asks for, held against everything that can be known before it begins.

    Raises:
        SettingsError: the space is empty or wrong, a metric cannot be measured, or the folder holds another search, or
            none that could go on.
    """
    config = words.config
    if config.output.resume is not None:
        return _resumed(config)
    output = many_runs.free_output(config.output.output_dir, RECORD)
    settings, path = train.parse(words.training), config.search.space
    if path is None and not settings.demo:
        raise SettingsError("--space is missing: name a YAML file of the flags to search")
    found, text = space.read_space(path or from_root("demo/space.yaml"))
    record = {
        "format": many_runs.FORMAT,
        "own": words.own,
        "training": words.training,
        "space": text,
        "folder": os.getcwd(),
    }
    return _sweep(config, words.training, settings, found, output, record)


# ------------------------------------------------------------------------------------------------------------- plan


def _sweep(
    config: SweepConfig,
    training: list[str],
    settings: TrainConfig,
    found: Space,
    output: Path,
    record: dict[str, Any] | None,
) -> Sweep:
    """The plan of a search."""
    names = [axis.name for axis in found]
    method = config.search.method or (GRID if all(axis.is_list for axis in found) else TPE)
    twice = next((name for name in names if name in settings.given), None)
    if twice is not None:
        raise SettingsError(f"--{twice} is given and in the space too; leave one of them out")
    _check_metrics(config, settings, names)
    steps = _rungs(config, settings, names)
    measured = ("--num_images", str(config.measuring.num_images))
    model = config.measuring.clip_model
    clip = () if model is None else ("--clip_model", address_of(model) or model)  # on every machine of a cluster
    intervals = [f"--{name}={steps[0]}" for name in _OF_RUNGS] if len(steps) > 1 else []
    plan = SearchPlan(
        space=found,
        method=method,
        num_trials=_num_trials(config.search.num_trials, method, found),
        metrics=config.search.metric,
        seed=config.search.search_seed,
        lag=config.cluster.parallel or 0,
        rungs=steps,
        factor=config.stopping.reduction_factor,
        fixed=(*many_runs.LEAN, *training, *intervals),
        tokens=tuple(settings.concept.placeholder_token),
        scoring=(*measured, *clip),
        max_failures=config.cluster.max_failures,
    )
    return Sweep(plan, output, many_runs.child_of(config.cluster, output), config.cluster, [], record)


def _num_trials(asked: int | None, method: str, found: Space) -> int:
    if method != GRID:
        return asked or _TRIALS
    ranged = next((axis.name for axis in found if not axis.is_list), None)
    if ranged is not None:
        raise SettingsError(f"--method grid: {ranged} has a range; give its values as a list, or take random or tpe")
    size = grid_size(found)
    if asked is not None and asked > size:
        raise SettingsError(f"--num_trials {asked}: the grid has only {size} trials; leave it out for all of them")
    if (asked or size) > MOST_TRIALS:
        raise SettingsError(f"the grid has {size} trials, and at most {MOST_TRIALS} can be tried; give --num_trials")
    return asked or size


def _check_metrics(config: SweepConfig, settings: TrainConfig, names: Sequence[str]) -> None:
    """Refuse metrics that the trials cannot measure, or that would compare what cannot be compared."""
    chosen, clip, model = config.search.metric, config.measuring.clip_model, settings.base_model
    folder = Path(model.pretrained_model_name_or_path)
    if "fixed_set_loss" in chosen:
        if not settings.validation.eval_steps:
            raise SettingsError("--metric fixed_set_loss is not measured with --eval_steps 0; leave that out")
        spoils = metrics.spoils_loss(names)
        if spoils is not None:
            raise SettingsError(
                f"--metric fixed_set_loss: {spoils} changes what the loss is of, so losses of different trials cannot "
                "be compared; take another metric"
            )
    if not metrics.wants_images(chosen):
        if clip is not None:
            raise SettingsError("--clip_model has no effect without a --metric of images; leave it out")
        return
    if clip is None and not (folder / "clip").is_dir():
        wanting = next(one for one in chosen if one in metrics.OF_IMAGES)
        raise SettingsError(
            f"--metric {wanting}: {folder} comes without a clip/ folder; name a CLIP model with --clip_model, or take "
            "--metric fixed_set_loss"
        )


def _rungs(config: SweepConfig, settings: TrainConfig, names: Sequence[str]) -> tuple[int, ...]:
    """The steps at which trials are compared; () without --asha."""
    stopping, steps = config.stopping, settings.training.max_train_steps
    if not stopping.asha:
        return ()
    if "num_train_epochs" in settings.given and "max_train_steps" not in settings.given:
        raise SettingsError("--asha counts steps, not epochs; give --max_train_steps in place of --num_train_epochs")
    for name in ("max_train_steps", "num_train_epochs", *_OF_RUNGS):
        if name in names or (name in settings.given and name in _OF_RUNGS):
            raise SettingsError(f"--asha decides when trials are stopped and saved; leave out {name}")
    first = stopping.min_steps or max(1, steps // stopping.reduction_factor**2)
    if first >= steps:
        raise SettingsError(f"--min_steps {first} must be below --max_train_steps, which is {steps}")
    return rungs(first, steps, stopping.reduction_factor)


# ----------------------------------------------------------------------------------------------------------- resume


def _resumed(now: SweepConfig) -> Sweep:
    """The search of a folder, with what is known of its trials."""
    output = Path(now.output.resume).absolute()
    record = many_runs.read_record(output / RECORD, _Record, now.output.resume)
    many_runs.enter(record["folder"])
    words = parse([*record["own"], *record["training"]])
    many_runs.check_words(words, record, output / RECORD)
    found = space.parse_space(record["space"], output / RECORD)
    sweep = _sweep(words.config, words.training, train.parse(words.training), found, output, None)
    plan = replace(sweep.plan, lag=record["lag"], max_failures=now.cluster.max_failures)
    path = output / TRIALS
    entries = many_runs.read_record(path, list[_Entry], now.output.resume) if path.exists() else []
    _check_entries(entries, plan, path)
    cluster = many_runs.with_those_of_now(sweep.cluster, now.cluster)
    return replace(sweep, plan=plan, cluster=cluster, trials=trials_from(entries, plan))


def _check_entries(entries: list[Any], plan: SearchPlan, path: Path) -> None:
    """Hold the trials of an earlier part against the space; raises SettingsError."""
    names = [axis.name for axis in plan.space]
    for number, entry in enumerate(entries):
        if entry["number"] != number or list(entry["parameters"]) != names or number >= plan.num_trials:
            raise SettingsError(f"{path}: trial {number} is none of this search; restore the file, or begin a new one")
        own = {name: tuple(v) if isinstance(v, list) else v for name, v in entry["parameters"].items()}
        flags = [word.partition("=")[0] for word in arguments(own) if word.startswith("--")]
        if flags != [f"--{name}" for name, value in own.items() if value is not None]:
            raise SettingsError(f"{path}: trial {number} has a flag that is not in the space; begin a new search")


def write_record(sweep: Sweep, lag: int) -> None:
    """Write what a search that is interrupted needs to go on; raises OutputError."""
    if sweep.record is not None:
        atomic.write_json(sweep.output / RECORD, {**sweep.record, "lag": lag})
