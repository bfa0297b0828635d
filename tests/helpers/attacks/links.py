"""Links, pipes and other people's files where a command is going to write (rule 5)."""

import os
import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from helpers.attacks.attack import EITHER, Attack, Kit

_SECRET = b"mine"


def _socket(path: Path, outside: Path) -> None:
    before = Path.cwd()
    os.chdir(path.parent)  # the name of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(before)


def _foreign(path: Path, outside: Path) -> None:
    path.write_bytes(b"another's")
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)


THINGS: dict[str, Callable[[Path, Path], None]] = {
    "a link": lambda path, outside: path.symlink_to(outside / "secret"),
    "a link to nothing": lambda path, outside: path.symlink_to(outside / "absent"),
    "a link to a folder": lambda path, outside: path.symlink_to(outside),
    "a circle": lambda path, outside: path.symlink_to(path),
    "a link to a device": lambda path, outside: path.symlink_to("/dev/zero"),
    "another name of a file": lambda path, outside: os.link(outside / "secret", path),
    "a pipe": lambda path, outside: os.mkfifo(path),
    "a folder": lambda path, outside: path.mkdir(),
    "a socket": _socket,
    "another user's": _foreign,
}
# Names that the commands write in their folder.
_NAMES = {
    "train": (
        ".lock", "files.json", "run.json", "config.yaml", "README.md", "learned_embeds.pdparams",
        "learned_embeds.safetensors", "learned_embeds-steps-1.pdparams", "checkpoint-1", "samples",
        "samples/step-1.png", "logs", "unet", "model_index.json", ".", "overview.png",
        "figures.jsonl", "report.html",
    ),
    "infer": (".lock", "manifest.json", "run.json", "0000-seed1.png", "files.json", "."),
    "score": ("score.json",),
}  # fmt: skip


def attacks(kit: Kit, chance: random.Random) -> Iterator[Attack]:
    """Each thing under each name."""
    for command, names in _NAMES.items():
        for name in names:
            for kind in THINGS:

                def build(place: Path, command: str = command, name: str = name, kind: str = kind) -> list[str]:
                    (place / "outside").mkdir()
                    (place / "outside/secret").write_bytes(_SECRET)
                    folder = place if command == "score" else place / "out"
                    path = folder / name if name != "." else folder
                    path.parent.mkdir(parents=True, exist_ok=True)
                    THINGS[kind](path, place / "outside")
                    more = {}
                    if command == "train":
                        more = dict(save_steps=1, checkpointing_steps=1, validation_prompt="a <cat>",
                                    validation_steps=1, report_to="visualdl", num_validation_images=1,
                                    overview="true")  # fmt: skip
                    return getattr(kit, command)(place, **more)

                def look(place: Path, said: str, name: str = name, kind: str = kind) -> Iterator[str]:
                    outside = place / "outside"
                    if (outside / "secret").read_bytes() != _SECRET:
                        yield "wrote through a link"
                    # An output folder may be a link that the user made; what lies in it may not.
                    if name != "." and {path.name for path in outside.iterdir()} != {"secret"}:
                        yield "wrote into a folder behind a link"

                yield Attack(5, f"{command}: {name} is {kind}", build, EITHER, look=look)
