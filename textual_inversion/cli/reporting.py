"""The command lines of `compare.py` and `verify.py`."""

from pathlib import Path

from textual_inversion.cli.parser import OneLineParser, parser_of
from textual_inversion.settings.compare import CompareConfig, VerifyConfig
from textual_inversion.settings.flag import filled
from textual_inversion.system.errors import SettingsError


def compare_parser() -> OneLineParser:
    """The parser of `compare.py`."""
    description = "Compare runs: settings that differ, curves, images of the same prompts and seeds, scores."
    return parser_of(CompareConfig, prog="compare.py", description=description)


def verify_parser() -> OneLineParser:
    """The parser of `verify.py`."""
    description = "Train a run again from its config.yaml, and say whether the bytes of the embedding are the same."
    return parser_of(VerifyConfig, prog="verify.py", description=description)


def parse_compare(argv: list[str] | None = None) -> CompareConfig:
    """The settings of `compare.py`; raises SettingsError."""
    config = filled(CompareConfig, vars(compare_parser().parse_args(argv)))
    folders = [Path(run).resolve() for run in config.runs.runs]
    twice = next((run for run, own in zip(config.runs.runs, folders, strict=True) if folders.count(own) > 1), None)
    if twice is not None:
        raise SettingsError(f"{twice} is named twice; compare it with another run")
    return config


def parse_verify(argv: list[str] | None = None) -> VerifyConfig:
    """The settings of `verify.py`; raises SettingsError."""
    return filled(VerifyConfig, vars(verify_parser().parse_args(argv)))
