"""What a pod runs: a command of this project with its flags, which goes on where an earlier pod of the run ended.

The flags are held against the command's own parser here, before anything reaches a cluster.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

from textual_inversion.cli import generation, own_flags, sweep, teach, train
from textual_inversion.cli.parser import asking_nobody
from textual_inversion.storage.look import NONE
from textual_inversion.storage.units import SUMS
from textual_inversion.system.addresses import is_address
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.paths import SCRIPTS
from textual_inversion.system.progress import print_note

APP, LOGS = "/app", "/tmp/log"  # of the image, and of a launcher in a pod
ON_RAY = ("sweep", "teach")
_PARSE = {"train": train.parse, "infer": generation.parse_infer, "sweep": sweep.parse, "teach": teach.parse}
_RECORDS = {"sweep": sweep.RECORD, "teach": teach.RECORD}  # by which a folder to go on with is known
# Flags that are read from a manifest's own, and those that would be in its way.
_INSTEAD = {
    "output_dir": "give it as --output, before the --",
    "address": "it follows from --nodes",
    "processes": "it follows from --nodes and --cards",
    "resume": "a pod that begins again goes on by itself; give the folder as --output, before the --",
    "max_restarts": "the cluster begins a pod again; see --retries",
    "hub_token": "it would be seen in the manifest; make a secret with the key HF_TOKEN, and name it with --secret",
}
# Files that a parser reads at once; in a pod they may lie where this machine has nothing.
_FILES = ("config", "validation_prompts_file")
_BESIDE_RESUME = ("parallel", "max_failures")


def words(kind: str, flags: Sequence[str], output: str, processes: Sequence[str], *, is_cluster: bool) -> list[str]:
    """The command line of a pod.

    Args:
        kind: train, infer, sweep or teach.
        flags: of the command.
        output: its folder, or its address in object storage.
        processes: the launcher's flags; empty: without it.
        is_cluster: whether it runs on a cluster of Ray's.

    Raises:
        SettingsError: the command refuses the flags, or they are not for here.
    """
    check(kind, flags)
    launcher = ["-m", "paddle.distributed.launch", "--log_dir", LOGS, *processes] if processes else []
    begin = ["python", "-u", *launcher, SCRIPTS[kind]]
    address = ["--address", "auto"] if is_cluster else []
    if kind == "infer":  # which draws what is missing
        return [*begin, *flags, "--output_dir", output, *address]
    if kind in ON_RAY:
        beside = _values(own_flags.split(flags, _own_parser(kind))[0], _BESIDE_RESUME)
        first = [*begin, *flags, "--output_dir", output, *address]
        again = [*begin, "--resume", output, *beside, *address]
        return _either(output, _RECORDS[kind], again, first)
    start = _values(flags, ("resume_from_checkpoint",))
    others = [*begin, *_without(flags, ("resume_from_checkpoint",)), "--output_dir", output]
    again = [*others, "--resume_from_checkpoint", "latest"]
    if not start or start[-1].endswith("latest"):
        return again
    return _either(output, f"checkpoint-*/{SUMS}", again, [*others, *start])


def check(kind: str, flags: Sequence[str]) -> None:
    """Hold a command's flags against its parser, values and combinations too; raises SettingsError."""
    for name, way in _INSTEAD.items():
        if _values(flags, (name,)):
            raise SettingsError(f"--{name} is not for a manifest: {way}")
    elsewhere = [name for name in _FILES for path in _values(flags, (name,))[1:] if not Path(path).is_file()]
    for name in elsewhere:
        print_note(f"the file of --{name} is not on this machine, so what it says is not checked")
    with asking_nobody():  # a pod may have credentials that this machine has not
        _PARSE[kind](_without(flags, elsewhere))


def _own_parser(kind: str):
    return {"sweep": sweep, "teach": teach}[kind].build_parser()


def _either(output: str, name: str, then: Sequence[str], otherwise: Sequence[str]) -> list[str]:
    """A command line that runs one of two, in place of the shell that looks whether files lie in an output folder.

    Args:
        name: of the files, with the marks of a shell's pattern.
    """
    then, otherwise = f"exec {shlex.join(then)}", f"exec {shlex.join(otherwise)}"
    if not is_address(output):
        first = f"{shlex.quote(output)}/{name.partition('/')[0]}"
        return ["sh", "-c", f"if ls -d {first} > /dev/null 2>&1; then {then}; else {otherwise}; fi"]
    look = shlex.join(["python", "-m", "textual_inversion.storage.look", output, name])
    # Where nobody can say what is there, neither is right.
    return ["sh", "-c", f"{look}; case $? in 0) {then};; {NONE}) {otherwise};; *) exit 2;; esac"]


def _values(flags: Sequence[str], names: Sequence[str]) -> list[str]:
    """The words of some flags of one value, each flag apart from its value."""
    found: list[str] = []
    for position, word in enumerate(flags):
        name, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and name in names:
            found += [f"--{name}", *([value] if equals else flags[position + 1 : position + 2])]
    return found


def _without(flags: Sequence[str], names: Sequence[str]) -> list[str]:
    """The words without those of some flags of one value."""
    kept, skip = [], False
    for word in flags:
        if skip:
            skip = False
        elif word.startswith("--") and word[2:].partition("=")[0] in names:
            skip = "=" not in word
        else:
            kept.append(word)
    return kept
