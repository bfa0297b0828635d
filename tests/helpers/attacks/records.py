"""Records, checkpoints and lists that a stranger has put beside an embedding or into a run's folder."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from helpers.attacks.attack import EITHER, Attack, Kit, edit_json
from helpers.attacks.base_models import RAW, VALUES, _setting, _unfile

NAMES = {
    "a repository id": "someone/secret-model",
    "another's address": "http://127.0.0.1/x",
    "a share": "//host/share",
    "a share of Windows": "\\\\host\\share",
    "a home": "~root/x",
    "a variable": "$HOME/x",
    "a file URL": "file:///etc",
    "a path out": "../../..",
    "a device": "/dev/zero",
    "a folder of processes": "/proc/self/root",
    "a single name": "bert",
    "a repository id with blanks": " someone/model ",
    "one of three parts": "a/b/c",
    "one with a revision": "a/b@main",
    "many parts": "a/" * 5_000,
    "a zero byte": "a/b\0",
    "a number": "7",
}
REUSED = (
    "base_model",
    "settings.pretrained_model_name_or_path",
    "settings.tokenizer_name",
    "settings.revision",
    "settings.variant",
    "settings.cache_dir",
    "settings.clip_model",
    "settings.train_data_dir",
)


def attacks(kit: Kit, chance: random.Random) -> Iterator[Attack]:
    """Of each kind."""
    yield from _of_names(kit)
    yield from _of_records(kit)
    yield from _of_checkpoints(kit)


def _recorded(kit: Kit, spoil, command: str = "infer", **flags: Any):
    """An embedding beside a record that is spoiled, used without naming a base model."""

    def build(place: Path) -> list[str]:
        run = kit.copy("run", place / "run")
        edit_json(run / "run.json", lambda record: record | {"base_model": str(kit.folder / "base")})
        spoil(run / "run.json")
        file = run / "learned_embeds.safetensors"
        return getattr(kit, command)(place, **{"embeds": file, "pretrained_model_name_or_path": None} | flags)

    return build


def _of_names(kit: Kit) -> Iterator[Attack]:
    """A record that names a base model, or something else that could be asked for."""
    for key in REUSED:
        path = tuple(key.split("."))
        for kind, value in NAMES.items():
            for command in ("infer", "score"):
                more = {} if key != "settings.clip_model" or command == "infer" else {"clip_model": None}
                attack = _recorded(kit, _setting(path, value), command, **more)
                yield Attack(13, f"{command}: a record whose {key} is {kind}", attack, EITHER)


def _of_records(kit: Kit) -> Iterator[Attack]:
    record = json.loads((kit.folder / "run/run.json").read_text())
    paths = [(key,) for key in record] + [("settings", key) for key in record.get("settings", {})]
    for path in paths:
        for kind, value in VALUES.items():
            attack = _recorded(kit, _setting(path, value))
            yield Attack(9, f"a record whose {'.'.join(path)} is {kind}", attack, EITHER)
    for kind, data in RAW.items():
        spoil = lambda file, data=data: file.write_bytes(data)  # noqa: E731
        yield Attack(9, f"a record that is {kind}", _recorded(kit, spoil), EITHER)
        yield Attack(9, f"a record that is {kind}, of a folder to resume in", _resumed(kit, "run.json", spoil), EITHER)
    for kind in ("a folder", "a pipe", "a link to nowhere", "a link to itself", "endless", "unreadable"):
        spoil = lambda file, kind=kind: _unfile(file, kind)  # noqa: E731
        yield Attack(9, f"a record that is {kind}", _recorded(kit, spoil), EITHER)


def _resumed(kit: Kit, name: str, spoil):
    """A run that resumes in a folder of which one file is spoiled."""

    def build(place: Path) -> list[str]:
        run = kit.copy("run", place / "out")
        spoil(run / name)
        return kit.train(place, max_train_steps=3, resume_from_checkpoint="latest", checkpointing_steps=1, save_steps=1)

    return build


def _of_checkpoints(kit: Kit) -> Iterator[Attack]:
    """Every file of a checkpoint, and every key of its JSON, with check sums that are right where there are any."""
    run = kit.folder / "run"
    newest = sorted(run.glob("checkpoint-*"))[-1]
    for file in sorted(path for path in newest.rglob("*") if path.is_file()):
        name = str(file.relative_to(run))
        for kind, data in RAW.items():
            spoil = lambda file, data=data: file.write_bytes(data)  # noqa: E731
            yield Attack(9, f"{name} is {kind}", _resumed(kit, name, spoil), EITHER)
        for kind in ("a folder", "a pipe", "a link to nowhere", "endless"):
            spoil = lambda file, kind=kind: _unfile(file, kind)  # noqa: E731
            yield Attack(9, f"{name} is {kind}", _resumed(kit, name, spoil), EITHER)
