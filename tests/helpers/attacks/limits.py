"""Full disks and limits of the system (rule 12): a command that is run under them.

    python -c "from helpers.attacks.limits import main; main([LIMIT, NUMBER, COMMAND, FLAGS …])"

Limits are set in the command's own process, just before its `main` or, where they decide whether it can start at all,
before its interpreter.
"""

import ctypes
import importlib
import json
import os
import random
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from helpers.attacks.attack import EITHER, REFUSED, Attack, Kit
from helpers.paths import ROOT

_NEW_MOUNTS, _NEW_USER = 0x00020000, 0x10000000  # CLONE_NEWNS, CLONE_NEWUSER
_PAGE = 4096
_SCRIPTS = {"train": "train_textual_inversion.py", "infer": "infer.py", "score": "score.py"}


def attacks(kit: Kit, chance: random.Random) -> Iterator[Attack]:
    """Of each kind."""
    limits = {"size of files": (0, 1, 10, 100, 1_000, 4_096, 20_000), "open files": (0, 1, 2, 3, 5, 8)}
    if not subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        limits["free pages"] = (0, 1, 2, 3, 4, 8, 16, 32, 64)
    for command in _SCRIPTS:
        for limit, numbers in limits.items():
            for number in numbers:

                def build(place: Path, command: str = command, limit: str = limit, number: int = number) -> list[str]:
                    (place / "disk").mkdir()
                    changed = {"output": place / "disk/score.json"}
                    if command != "score":
                        changed = {"output_dir": place / "disk/out"}
                    if command == "train":
                        changed |= dict(save_steps=1, checkpointing_steps=1)
                    return ["helpers.attacks.limits", limit, str(number), *getattr(kit, command)(place, **changed)]

                yield Attack(12, f"{command}: {number} {limit}", build, EITHER, look=_damaged)
        for megabytes in (200, 700, 1500, 2500):
            yield _from_the_start(kit, command, "address space", megabytes)
        for level in (2, 3):
            yield _from_the_start(kit, command, "optimized", level)


def _from_the_start(kit: Kit, command: str, limit: str, number: int) -> Attack:
    def build(place: Path) -> list[str]:
        return ["helpers.attacks.limits", limit, str(number), *getattr(kit, command)(place)]

    return Attack(12, f"{command}: {limit} {number}", build, REFUSED, look=_damaged)


def main(argv: list[str]) -> int:
    """Set a limit and be the command."""
    limit, number, command, *flags = argv
    if limit in ("address space", "optimized"):
        _restart(limit, int(number), command, flags)
    if limit == "size of files":
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(number), int(number)))
    elif limit == "open files":
        first_free = os.dup(0)
        os.close(first_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (first_free + int(number),) * 2)
    else:
        _small_disk(Path("disk"), int(number))
    try:
        return importlib.import_module(command).main(flags) or 0
    finally:
        if limit == "free pages" and (found := [*_damaged(Path(), "")]):
            print("Traceback: " + "; ".join(found), file=sys.stderr)  # nobody else can look at this disk


def _restart(limit: str, number: int, command: str, flags: list[str]) -> None:
    if limit == "optimized":
        os.environ["PYTHONOPTIMIZE"] = str(number)
    else:
        resource.setrlimit(resource.RLIMIT_AS, (number << 20, resource.getrlimit(resource.RLIMIT_AS)[1]))
    os.execv(sys.executable, [sys.executable, str(ROOT / f"{command}.py"), *flags])


def _small_disk(place: Path, pages: int) -> None:
    """Mount a disk of which so many pages are free; it ends with the process."""
    libc, user, group = ctypes.CDLL(None, use_errno=True), os.geteuid(), os.getegid()
    if libc.unshare(_NEW_MOUNTS | _NEW_USER):
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    if libc.mount(b"tmpfs", os.fsencode(place), b"tmpfs", 0, f"size={64 * _PAGE + 65536}".encode()):
        raise OSError(ctypes.get_errno(), "mount")
    (place / "out").mkdir()
    with open(place / "ballast", "wb", buffering=0) as ballast:
        try:
            while ballast.write(bytes(_PAGE)):
                pass
        except OSError:
            pass
        ballast.truncate(max(0, ballast.tell() - pages * _PAGE))


def _damaged(place: Path, said: str) -> Iterator[str]:
    """Files under their final names that are not whole."""
    for path in [*(place / "disk").rglob("*.json"), *(place / "out").rglob("*.json")]:
        try:
            json.loads(path.read_text("utf-8"))
        except ValueError:
            yield f"left {path.name} incomplete"
    from textual_inversion.formats.embedding_file import read_embeddings
    from textual_inversion.system.errors import EmbeddingFileError

    for path in [*(place / "disk").rglob("learned_embeds*"), *(place / "out").rglob("learned_embeds*")]:
        try:
            read_embeddings(path)
        except EmbeddingFileError:
            yield f"left {path.name} incomplete"
