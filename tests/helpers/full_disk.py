"""Train onto a real disk of 1 MiB that fills up, turns read-only or vanishes.

    unshare -rm python tests/helpers/full_disk.py

A tmpfs is mounted, for which `unshare -rm` gives the right to an ordinary user where the system allows it; what is
mounted ends with the program. Each line of the table is a run of ten steps that saves after every step. Its final
vectors must equal, bit for bit, those of a run on a healthy disk with the same settings; they must be in the output
folder, or where the run says that it has kept them. All files must be readable, and no temporary one may be left.
"""

import argparse
import contextlib
import io
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(folder) for folder in Path(__file__).resolve().parents[1:3]]  # tests and what they test

from helpers.failing_disk import temporary_files
from helpers.paths import ROOT
from helpers.training_runs import short_run
from textual_inversion.system.errors import OutputError

STEPS, SIZE = 10, "1m"
_SHOWN = ("--only_save_embeds", "--max_train_steps", str(STEPS), "--save_steps", "1", "--eval_steps", "5",
            "--keep_best", "--validation_prompt", "a <cat-toy>", "--validation_steps", "2",
            "--num_validation_images", "1", "--report_to", "visualdl")  # fmt: skip


class SmallDisk:
    """A tmpfs at `place` that can be filled, emptied, made read-only, and lose the output folder."""

    def __init__(self, place: Path):
        self.place, self.out = place, place / "out"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)], check=True)

    def fill(self) -> None:
        with open(self.place / "ballast", "wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass

    def empty(self) -> None:
        (self.place / "ballast").unlink()

    def read_only(self) -> None:
        self._remount("ro")

    def writable(self) -> None:
        self._remount("rw")

    def remove_output(self) -> None:
        shutil.rmtree(self.out)

    def _remount(self, how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how},size={SIZE}", str(self.place)], check=True)

    def close(self) -> None:
        subprocess.run(["umount", str(self.place)], check=True)


@dataclass
class Outcome:
    """What became of one run.

    Attributes:
        failed: saves that the run said had failed.
        kept_in: where the final vectors are: "output folder" or "elsewhere".
        equal: whether they are those of the run on a healthy disk.
        readable, unreadable: embedding files.
        leftovers: temporary files.
        error: the last line, where the run ended with one.
    """

    failed: int
    kept_in: str
    equal: bool
    readable: int
    unreadable: list = field(default_factory=list)
    leftovers: list = field(default_factory=list)
    error: str = ""

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost, and an error said where the vectors are if it was not where they belong."""
        return self.equal and not self.unreadable and not self.leftovers and bool(self.error) == self.is_elsewhere

    @property
    def is_elsewhere(self) -> bool:
        """Whether the output folder could not take the final vectors."""
        return self.kept_in == "elsewhere"


# What happens before the saves of which steps (counted from 1).
MISHAPS = {
    "full in steps 4 to 6": {4: SmallDisk.fill, 7: SmallDisk.empty},
    "full from step 4 on": {4: SmallDisk.fill},
    "read-only in steps 4 to 6": {4: SmallDisk.read_only, 7: SmallDisk.writable},
    "read-only from step 4 on": {4: SmallDisk.read_only},
    "folder removed in steps 3 and 6": {3: SmallDisk.remove_output, 6: SmallDisk.remove_output},
}


def train(argv: list[str], events: dict) -> tuple[str, str]:
    """Train, with an event before the saves of some steps; returns (what was said, the error that ended it or "")."""
    import train_textual_inversion
    from textual_inversion.training import callbacks

    usual, said, error = callbacks.Callbacks.after_step, io.StringIO(), ""

    def after_step(self, step, *arguments):
        events.get(step, lambda: None)()
        usual(self, step, *arguments)

    callbacks.Callbacks.after_step = after_step
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            train_textual_inversion.main(argv)
    except OutputError as caught:
        error = str(caught)
    finally:
        callbacks.Callbacks.after_step = usual
    return said.getvalue(), error


def outcome(disk: SmallDisk, elsewhere: Path, expected, said: str, error: str) -> Outcome:
    from textual_inversion.formats.embedding_file import read_embeddings
    from textual_inversion.system.errors import EmbeddingFileError

    named = re.search(r"the learned vectors are in (.*)", error)
    final = Path(named[1]) if named else disk.out / "learned_embeds.pdparams"
    readable, unreadable = 0, []
    for path in [*disk.place.rglob("learned_embeds*"), *elsewhere.rglob("learned_embeds*")]:
        try:
            read_embeddings(path)
            readable += 1
        except EmbeddingFileError as damage:
            unreadable.append(str(damage))
    return Outcome(
        failed=said.count("the next save tries again"),
        kept_in="output folder" if disk.place in final.parents else "elsewhere",
        equal=final.exists() and final.read_bytes() == expected,
        readable=readable,
        unreadable=unreadable,
        leftovers=temporary_files(disk.place) + temporary_files(elsewhere),
        error=error,
    )


def run_all(folder: Path, mishaps: dict) -> dict[str, Outcome]:
    """A run for each mishap; `folder` is on a healthy disk."""
    train(short_run(folder, *_SHOWN, "--output_dir", str(folder / "healthy")), {})
    expected = (folder / "healthy" / "learned_embeds.pdparams").read_bytes()
    outcomes = {}
    for number, (name, mishap) in enumerate(mishaps.items()):
        disk, elsewhere = SmallDisk(folder / f"disk-{number}"), folder / f"elsewhere-{number}"
        elsewhere.mkdir()
        usual, tempfile.tempdir = tempfile.tempdir, str(elsewhere)
        try:
            argv = short_run(folder, *_SHOWN, "--output_dir", str(disk.out))
            said, error = train(argv, {step: lambda act=act, disk=disk: act(disk) for step, act in mishap.items()})
            outcomes[name] = outcome(disk, elsewhere, expected, said, error)
        finally:
            tempfile.tempdir = usual
            disk.close()
    return outcomes


def log_on_a_full_disk(folder: Path) -> tuple[int, bool]:
    """The exit status of a run that cannot write its own output, and whether its vectors are there."""
    disk = SmallDisk(folder / "log")
    disk.fill()
    out = folder / "with log on a full disk"
    command = [sys.executable, ROOT / "train_textual_inversion.py", *short_run(folder, "--only_save_embeds"),
               "--output_dir", out]  # fmt: skip
    try:
        with open(disk.place / "log.txt", "wb") as log:
            status = subprocess.run(command, stdout=log, stderr=log).returncode
    finally:
        disk.close()
    return status, (out / "learned_embeds.pdparams").exists()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Train onto a real disk that fills up, or worse.")
    parser.add_argument("--mishaps", nargs="+", choices=MISHAPS, default=list(MISHAPS), help="what happens")
    parser.add_argument("--no_log", action="store_true", help="leave out the run whose own output is on a full disk")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        outcomes = run_all(Path(name), {mishap: MISHAPS[mishap] for mishap in args.mishaps})
        status, is_there = (0, True) if args.no_log else log_on_a_full_disk(Path(name))
    print(f"{'':32} failed saves  vectors are in equal  readable files  damaged  leftovers")
    for name, one in outcomes.items():
        print(
            f"{name:32} {one.failed:12}  {one.kept_in:13}  {'yes' if one.equal else 'NO':5}  {one.readable:14}  "
            f"{len(one.unreadable):7}  {len(one.leftovers):9}"
        )
    if not args.no_log:
        print(f"output of the run on a full disk: exit status {status}, vectors {'written' if is_there else 'LOST'}")
    return int(not all(one.is_good for one in outcomes.values()) or status != 0 or not is_there)


if __name__ == "__main__":
    sys.exit(main())
