"""The command lines of `convert.py` and of its subcommands."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from textual_inversion.cli.parser import OneLineParser, parser_of
from textual_inversion.embeddings.mix_expression import Known, Learned, parts_of
from textual_inversion.embeddings.mix_expression import parse as parse_mix
from textual_inversion.formats.learned_embedding import check_token
from textual_inversion.formats.targets import of_ending
from textual_inversion.settings.choices import AUTO, TABLE
from textual_inversion.settings.convert import ConvertConfig, DoctorConfig, InspectConfig, MixConfig
from textual_inversion.settings.flag import changed, filled
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.paths import how_to_call

SCRIPT = "convert.py"


@dataclass(frozen=True)
class Subcommand:
    """What follows `convert.py` on a command line.

    Attributes:
        config: the class of its settings.
        description: what `--help` says about it.
    """

    config: type
    description: str


# The first word of a command line that has one; without, the words are files to convert.
SUBCOMMANDS = {
    "inspect": Subcommand(InspectConfig, "Describe files: embeddings of any program, and whatever else they are."),
    "mix": Subcommand(MixConfig, "Make a new word from learned and vocabulary words: sums with weights, or in a row."),
    "doctor": Subcommand(DoctorConfig, "Say whether embeddings can work with a base model, and why not."),
}
_CONVERSION = Subcommand(
    ConvertConfig,
    "Write learned embeddings as other programs read them. The first word may also be a subcommand: "
    f"{', '.join(SUBCOMMANDS)}; see `convert.py inspect --help`.",
)


def build_parser(subcommand: str | None = None) -> OneLineParser:
    """The parser of `convert.py`, or of one of its `SUBCOMMANDS`."""
    chosen = _CONVERSION if subcommand is None else SUBCOMMANDS[subcommand]
    prog = SCRIPT if subcommand is None else f"{SCRIPT} {subcommand}"
    return parser_of(chosen.config, prog=prog, description=chosen.description)


def parse(argv: Sequence[str] | None = None) -> Any:
    """The settings that a command line stands for: a `ConvertConfig`, or that of a subcommand.

    Raises:
        SettingsError: a flag is unknown, missing or out of its range.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    name = words[0] if words and words[0] in SUBCOMMANDS else None
    chosen = _CONVERSION if name is None else SUBCOMMANDS[name]
    config = filled(chosen.config, vars(build_parser(name).parse_args(words if name is None else words[1:])))
    if isinstance(config, ConvertConfig):
        _check_conversion(config)
    if isinstance(config, MixConfig):
        return _settled_mix(config)
    if isinstance(config, InspectConfig) and not config.files.files and config.files.hub is None:
        raise SettingsError(
            f"the following arguments are required: FILE; see {how_to_call(f'{SCRIPT} inspect')} --help, or list what "
            "a hub has with --hub"
        )
    return config


def _check_conversion(config: ConvertConfig) -> None:
    for name in ("to", "output"):
        if getattr(config.output, name) is None:
            raise SettingsError(f"--{name} is missing: {_WANTED[name]}")


def _settled_mix(config: MixConfig) -> MixConfig:
    """The settings of a mix with the layout that the ending of --output means; raises SettingsError."""
    mix, output = config.mix, config.output
    if mix.name is None:
        raise SettingsError("--name is missing: give the placeholder token of the new word, such as --name '<new>'")
    check_token(mix.name)
    if output.output is None:
        raise SettingsError(f"--output is missing: {_WANTED['output']}")
    to = output.to or of_ending(output.output)
    if to is None:
        raise SettingsError(f"--to is missing: {_WANTED['to']}; or give --output an ending such as .safetensors")
    parts = list(parts_of(parse_mix(mix.expression)))
    if not any(isinstance(part, Learned) for part in parts):
        if mix.from_start is not None:
            raise SettingsError("--from_start: the mix names no learned word, and no other has a start; leave it out")
        if output.cover == AUTO:
            raise SettingsError("--cover auto: the mix names no learned word, whose run could have an image; name one")
    for is_wanted, what in (
        (any(isinstance(part, Known) for part in parts), "a vocabulary word is"),
        (mix.from_start is not None, "the start of a training is"),
        (mix.norm == TABLE, "the norm of a table is"),
    ):
        if is_wanted and config.model.pretrained_model_name_or_path is None:
            raise SettingsError(f"--pretrained_model_name_or_path is missing: {what} that of a base model; name it")
    return changed(config, to=to)


_WANTED = {
    "to": "say for which program to write, such as --to safetensors; all of them with --help",
    "output": "name the file or folder to write",
}
