"""Train a run again from its config.yaml, and say whether the bytes of its embedding are the same."""

import tempfile
from pathlib import Path

from textual_inversion.cli.reporting import parse_verify
from textual_inversion.cli.reporting import verify_parser as build_parser
from textual_inversion.settings.compare import VerifyConfig
from textual_inversion.system.errors import SettingsError, run_command
from textual_inversion.system.progress import print_line, print_note

__all__ = ["build_parser", "main"]

OTHER_BYTES = 3  # exit status: 1 is that of a fault of the program, 2 that of a refusal


def main(argv: list[str] | None = None) -> int:
    """Run the command; `argv` without the program's name. Returns the exit status: 0 for the same bytes, else 3."""
    return run(parse_verify(argv))


def run(config: VerifyConfig) -> int:
    """Show what is read, train, and compare."""
    from textual_inversion.cli.repeat import read_repetition, train_again
    from textual_inversion.embeddings.file_names import FINAL_NAME

    folder = Path(config.run.run)
    repetition = read_repetition(folder, trusts=config.run.trust_record)
    proved = folder / FINAL_NAME
    if not proved.is_file():
        raise SettingsError(f"{folder} holds no {FINAL_NAME}, which would be compared")
    _show(folder, repetition)
    if config.run.show:
        return 0
    machine = {name: value for name, value in vars(config.machine).items() if value is not None}
    with tempfile.TemporaryDirectory(prefix="textual-inversion-") as scratch:
        train_again(repetition, Path(scratch) / "run", **machine)
        return _compared(proved, Path(scratch) / "run" / FINAL_NAME)


def _show(folder: Path, repetition) -> None:
    """Say what is read, what is left out, and in what this machine differs from that of the run."""
    from textual_inversion.embeddings.run_record import read_record
    from textual_inversion.system.provenance import versions

    print_line(
        f"{repetition.config} is read, and into a folder that is removed again nothing else is written; it reads"
    )
    for one in repetition.reads:
        print_line(f"    {one.name}: {one.value}{'' if one.is_here else ' (asked for at a hub)'}")
    if not repetition.reads:
        print_line("    what the program's own defaults name")
    if repetition.left_out:
        print_line(f"left out, since it does not change what is learned: {', '.join(repetition.left_out)}")
    recorded = read_record(folder).get("versions")
    here = versions()
    for name, version in sorted((recorded if isinstance(recorded, dict) else {}).items()):
        if name in here and here[name] != version:
            print_note(f"the run had {name} {version}, here is {here[name]}; other versions may round otherwise")


def _compared(proved: Path, again: Path) -> int:
    """Say whether two embedding files are the same, and how far they are apart."""
    from textual_inversion.embeddings.distance import distance_line
    from textual_inversion.embeddings.files import read_concept_files
    from textual_inversion.system import user_files

    hashes = [user_files.sha256(path, user_files.WEIGHTS) for path in (proved, again)]
    if hashes[0] == hashes[1]:
        print_line(f"the same bytes: {proved} is what its config.yaml trains (SHA-256 {hashes[0]})")
        return 0
    files = [read_concept_files([path])[0] for path in (proved, again)]
    print_line(f"not the same bytes: {proved} has SHA-256 {hashes[0]}, trained again it has {hashes[1]}")
    print_line(distance_line(*[{c.placeholder_token: c.vectors for c in file.concepts} for file in files]))
    return OTHER_BYTES


if __name__ == "__main__":
    run_command(main)
