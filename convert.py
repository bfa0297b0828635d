"""Learned embeddings between programs: describe any file, and write concepts in the layout of another program."""

from collections.abc import Callable
from typing import Any

from textual_inversion.cli.convert import build_parser, parse
from textual_inversion.settings.convert import ConvertConfig, InspectConfig
from textual_inversion.system.errors import run_command
from textual_inversion.system.progress import print_line, print_note

__all__ = ["build_parser", "main"]


def main(argv: list[str] | None = None) -> int | None:
    """Run the command; `argv` without the program's name. Returns the exit status."""
    config = parse(argv)
    return _RUNS[type(config)](config)


def convert(config: ConvertConfig) -> None:
    """Write the concepts of some files in the layout of another program."""
    from textual_inversion.embeddings.conversion import converted
    from textual_inversion.embeddings.files import read_concept_files

    files = read_concept_files(config.files.files, config.files.rename)
    for written in converted(files, config.output.to, config.output.output, words=config.files.words):
        for note in written.notes:
            print_note(note)
        print_line(f"{', '.join(written.words)}: {written.path}")


def inspect(config: InspectConfig) -> None:
    """Say what files are."""
    from textual_inversion.embeddings.inspection import described, report

    for path in config.files.files:
        for line in report(described(path)):
            print_line(line, is_aligned=True)


# What is done with the settings of each subcommand, by their class.
_RUNS: dict[type, Callable[[Any], int | None]] = {ConvertConfig: convert, InspectConfig: inspect}


if __name__ == "__main__":
    run_command(main)
