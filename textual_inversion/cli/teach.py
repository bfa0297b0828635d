"""The command line of `teach.py`: from arguments to the runs of a list of concepts."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from textual_inversion.cli import concept_list, many_runs, own_flags, train
from textual_inversion.cli.concept_list import Broken
from textual_inversion.cli.parser import OneLineParser, parser_of
from textual_inversion.cluster.child import Child
from textual_inversion.cluster.lessons import Group, Lesson, groups, why_not_together
from textual_inversion.cluster.teaching import CONCEPTS, Known
from textual_inversion.settings.cluster import ClusterSettings
from textual_inversion.settings.teach import TeachConfig
from textual_inversion.system import atomic
from textual_inversion.system.checked_json import whole_number
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.paths import has_demo

SCRIPT = "teach.py"
RECORD = "teach.json"
# Flags of the training command that the list decides.
_OF_LIST = ("placeholder_token", "train_data_dir")


class _Lesson(TypedDict):
    token: str
    images: str
    own: dict[str, str]
    shared: dict[str, str]
    learnable_property: str


class _Record(TypedDict):
    """What `teach.json` holds."""

    format: whole_number(many_runs.FORMAT, many_runs.FORMAT)
    own: list[str]
    training: list[str]
    folder: str
    concepts: list[_Lesson]
    left_out: dict[str, str]


class _Known(TypedDict):
    status: str
    error: str | None
    figures: dict[str, float | None]


@dataclass(frozen=True)
class TeachArguments:
    """What a command line says.

    Attributes:
        config: the settings of `teach.py` itself.
        own, training: the words of its own flags, and those of the training command.
    """

    config: TeachConfig
    own: list[str]
    training: list[str]


@dataclass(frozen=True)
class Teach:
    """What `teach.py` is to do.

    Attributes:
        groups: all runs.
        fixed: the training command's arguments that all runs have.
        language: of the prompts of images.
        output: the folder, as an absolute path.
        child: how runs are started.
        cluster: where they run.
        draws: whether an image of each concept is drawn.
        left_out: concepts that cannot be learned.
        known: run -> what is known of it from an earlier part.
        record: what `RECORD` is to hold; None where it is there.
        notes: what is to be said, in lines.
    """

    groups: list[Group]
    fixed: tuple[str, ...]
    language: str
    output: Path
    child: Child
    cluster: ClusterSettings
    draws: bool
    left_out: list[Broken]
    known: dict[str, Known]
    record: dict[str, Any] | None
    notes: list[str]


def build_parser() -> OneLineParser:
    """The parser of the flags that are `teach.py`'s own."""
    description = (
        "Learn every concept of a list, small ones together. All flags of the training command may be given too: they "
        "are those of every concept. Without arguments: the concepts of the demo."
    )
    return parser_of(TeachConfig, prog=SCRIPT, description=description)


def parse(argv: Sequence[str] | None = None) -> TeachArguments:
    """What a command line says; no file but those of --config is read.

    Raises:
        SettingsError: a flag is unknown, out of its range, or contradicts another.
    """
    own, training = own_flags.split(sys.argv[1:] if argv is None else argv, build_parser())
    config, given = many_runs.own_settings(own, build_parser(), TeachConfig)
    many_runs.check_beside_resume(config.output.resume, given, training)
    if config.concepts.alone and "together" in given:
        raise SettingsError("--alone and --together contradict each other; keep one of them")
    training = own_flags.with_configuration(training)
    for name in _OF_LIST:
        if any(word.partition("=")[0] == f"--{name}" for word in training):
            raise SettingsError(f"--{name} is what the list says of each concept; leave it out")
    if not has_demo() and config.output.resume is None and "concepts" not in given:
        raise SettingsError("this installation comes without the demo; name a folder or a CSV file with --concepts")
    if config.output.resume is None:
        train.parse([*training, "--placeholder_token", "<word>", "--train_data_dir", "."])
    return TeachArguments(config, own, training)


def prepared(words: TeachArguments) -> Teach:
    """The runs that a command line asks for, all concepts held against what can be known before any is learned.

    Raises:
        SettingsError: the list is wrong, a concept cannot be learned, or the folder holds another list, or none that
            could go on.
    """
    config = words.config
    if config.output.resume is not None:
        return _resumed(config)
    output = many_runs.free_output(config.output.output_dir, RECORD)
    lessons = concept_list.read_concepts(config.concepts.concepts)
    good, settings, broken = concept_list.looked_at(lessons, words.training)
    if broken and (not config.concepts.skip_broken or not good):
        more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        way = "" if not good else ", or add --skip_broken to leave it out"
        raise SettingsError(f"{broken[0].token} cannot be learned{more}: {broken[0].reason}; correct it{way}")
    record = {
        "format": many_runs.FORMAT,
        "own": words.own,
        "training": words.training,
        "folder": os.getcwd(),
        "concepts": [{**vars(one), "own": dict(one.own), "shared": dict(one.shared)} for one in good],
        "left_out": {one.token: one.reason for one in broken},
    }
    return _teach(words, good, settings, broken, output, record)


def _teach(
    words: TeachArguments,
    lessons: list[Lesson],
    settings: Mapping[str, Any],
    broken: list[Broken],
    output: Path,
    record: dict[str, Any] | None,
) -> Teach:
    config = words.config
    most = 1 if config.concepts.alone else config.concepts.together
    runs, notes = groups(lessons, most, settings), [f"{one.token} is left out: {one.reason}" for one in broken]
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        same = next(name for name in names if names.count(name) > 1)
        raise SettingsError(f"two runs would be called {same}; give the concept of that name another word")
    reason = next((found for one in lessons if (found := why_not_together(settings[one.token]))), None)
    if most > 1 and reason is not None:
        notes.append(f"with {reason} concepts would not be learned as if alone, so each such one has its own run")
    return Teach(
        groups=runs,
        fixed=(*many_runs.LEAN, *words.training),
        language=settings[lessons[0].token].base_model.language,
        output=output,
        child=many_runs.child_of(config.cluster, output),
        cluster=config.cluster,
        draws=not config.output.no_sheet,
        left_out=broken,
        known={},
        record=record,
        notes=notes,
    )


def _resumed(now: TeachConfig) -> Teach:
    """The list of a folder, with what is known of its runs."""
    output = Path(now.output.resume).absolute()
    record = many_runs.read_record(output / RECORD, _Record, now.output.resume)
    many_runs.enter(record["folder"])
    words = parse([*record["own"], *record["training"]])
    many_runs.check_words(words, record, output / RECORD)
    lessons = [Lesson(**one) for one in record["concepts"]]
    concept_list.check_recorded(lessons)
    broken = [Broken(token, reason) for token, reason in record["left_out"].items()]
    settings = {one.token: train.parse([*words.training, *Group((one,)).arguments()]) for one in lessons}
    teach = _teach(words, lessons, settings, broken, output, None)
    path = output / CONCEPTS
    known = many_runs.read_record(path, dict[str, _Known], now.output.resume) if path.exists() else {}
    return replace(
        teach,
        cluster=many_runs.with_those_of_now(teach.cluster, now.cluster),
        known={name: Known(**one) for name, one in known.items()},
        notes=[],
    )


def write_record(teach: Teach) -> None:
    """Write what a list that is interrupted needs to go on; raises OutputError."""
    if teach.record is not None:
        atomic.write_json(teach.output / RECORD, teach.record)
