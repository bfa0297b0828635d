"""Compare runs: what differs in their settings, curves, images and scores, and whether that means anything."""

from pathlib import Path

from textual_inversion.cli.reporting import compare_parser as build_parser
from textual_inversion.cli.reporting import parse_compare
from textual_inversion.settings.compare import CompareConfig
from textual_inversion.system import atomic
from textual_inversion.system.errors import OutputError, SettingsError, run_command
from textual_inversion.system.progress import print_line

__all__ = ["build_parser", "main"]


def main(argv: list[str] | None = None) -> None:
    """Run the command; `argv` without the program's name."""
    run(parse_compare(argv))


def run(config: CompareConfig) -> None:
    """Print what differs, and write the page."""
    from textual_inversion.reporting.comparison import comparison, table
    from textual_inversion.reporting.run_facts import read_run

    output = Path(config.output.output)
    _check(output, overwrite=config.output.overwrite)
    runs = [read_run(Path(folder)) for folder in config.runs.runs]
    atomic.write_bytes(output, comparison(runs))
    for line in table(runs):
        print_line(line, is_aligned=True)
    print_line(f"side by side: {output}")


def _check(output: Path, *, overwrite: bool) -> None:
    """Refuse to write where nothing can be written, or over a file that is no page of this program."""
    from textual_inversion.reporting.comparison import BEGINNING
    from textual_inversion.system.links import beginning_of

    if not output.resolve().parent.is_dir():
        raise SettingsError(f"--output {output}: there is no such folder; make it first")
    try:
        beginning = beginning_of(output, len(BEGINNING))
    except OSError as error:
        raise OutputError(f"--output {output}: {error.strerror or error}; choose another file") from error
    if beginning not in (None, BEGINNING) and not overwrite:
        raise OutputError(
            f"{output} is there, and no page of this program; choose another --output, or add --overwrite"
        )


if __name__ == "__main__":
    run_command(main)
