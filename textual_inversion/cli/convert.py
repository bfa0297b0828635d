"""The command lines of `convert.py` and of its subcommands."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from textual_inversion.cli.parser import OneLineParser, parser_of
from textual_inversion.settings.convert import ConvertConfig, InspectConfig
from textual_inversion.settings.flag import filled
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


_WANTED = {
    "to": "say for which program to write, such as --to safetensors; all of them with --help",
    "output": "name the file or folder to write",
}
