"""What lies in the folder that a run uploads from, and what the records that it uploads say (rules 1 and 2).

The run is a real one. It uploads to a hub in its own process, whose repositories are then laid beside the run.
"""

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from helpers.attacks.attack import EITHER, HARMLESS, Attack, Kit
from helpers.local_hub import TOKEN, LocalHub, use

SECRET = b"a private matter"
PRIVATE = "ann-private"  # part of a path
# Names that the patterns of an upload would take, or that lie beside what a run writes.
NAMES = [
    "learned_embeds-old/diary.txt", "learned_embeds-steps-9.pdparams", "learned_embeds-mine.safetensors",
    "learned_embeds.bin", "samples/step-99.png", "samples/ann/step-1.png", "overview.png", "config-of-run.yaml",
    "unet/notes.txt", "unet/diary/x", "vae/secret.safetensors", "tax/2024.pdf", "checkpoint-5/diary.txt",
    "checkpoint-9/state", "logs/y.log", "curves/y.log", ".upload/diary.txt", ".upload-2/run.json", ".ssh/id_rsa",
    "a b\n.png", "samples/猫.png", ".files.json.tmp-1", "README.md.orig", "run.json.bak", "score.json", "notes",
    "export/kohya/cat.safetensors", "export/webui-png/me.png", "export/diary.txt", "export/diary/x.pt",
]  # fmt: skip


KINDS = ("file", "link", "folder", "hard link")
# Flags that take a path, and what of the kit lies there.
_PATHS = {
    "train_data_dir": "images", "pretrained_model_name_or_path": "base", "mask_dir": "images", "clip_model": "clip",
    "tokenizer_name": "base/tokenizer", "initializer_embeds": "run/learned_embeds.safetensors", "logging_dir": None,
    "cache_dir": None, "cache_latents_dir": None, "template_file": "a photo of {}\n",
    "validation_prompts_file": "a <cat> on a table\n",
}  # fmt: skip


def put(path: Path, kind: str, outside: Path) -> Path | None:
    """Put something of a stranger's at a path; None where it would have to replace what is there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "file" and not path.exists():
            path.write_bytes(SECRET)
        elif kind == "link":
            path.symlink_to(outside / "diary.txt")
        elif kind == "folder":
            path.symlink_to(outside)
        elif kind == "hard link":
            os.link(outside / "diary.txt", path)
        else:
            return None
    except (FileExistsError, NotADirectoryError):
        return None
    return path


def attacks(kit: Kit, chance: random.Random) -> Iterator[Attack]:
    """Of each kind."""
    yield from _of_folders(kit)
    yield from _of_records(kit)


def main(argv: list[str]) -> int:
    """Train and upload; what the hub was given is written into `hub/`."""
    import pytest
    from huggingface_hub.utils import disable_progress_bars

    import train_textual_inversion

    disable_progress_bars()  # they are the client's own, and move the cursor
    with LocalHub() as hub:
        use(hub, pytest.MonkeyPatch(), Path("cache").absolute())
        try:
            return train_textual_inversion.main(argv) or 0
        finally:
            for repository, files in hub.repositories.items():
                for name, content in files.items():
                    path = Path("hub", repository, name)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)


def _command(kit: Kit, place: Path, **flags: Any) -> list[str]:
    own = dict(push_to_hub="true", hub_token=TOKEN, hub_model_id="me/cat", save_steps=1, validation_prompt="a <cat>",
               validation_steps=1, num_validation_images=1)  # fmt: skip
    return ["helpers.attacks.uploads", *kit.train(place, **own | flags)[1:]]


def _uploaded(place: Path) -> dict[str, bytes]:
    files = [path for path in (place / "hub").rglob("*") if path.is_file()]
    return {str(path.relative_to(place / "hub/me/cat")): path.read_bytes() for path in files}


def _of_folders(kit: Kit) -> Iterator[Attack]:
    """Strangers' files and links, in the folder before the run begins."""
    for number, name in enumerate(NAMES):
        for kind in KINDS:

            def build(place: Path, name: str = name, kind: str = kind, whole: bool = bool(number % 2)) -> list[str]:
                (place / "outside").mkdir()
                for own in ("diary.txt", "step-1.png", "model_state.pdparams", "state"):
                    (place / "outside" / own).write_bytes(SECRET)
                put(place / "out" / name, kind, place / "outside")
                return _command(kit, place, hub_whole_pipeline="true" if whole else "false")

            def look(place: Path, said: str, name: str = name, kind: str = kind) -> Iterator[str]:
                for up, content in _uploaded(place).items():
                    if SECRET in content:
                        yield f"uploaded {up}"
                if {path.read_bytes() for path in (place / "outside").iterdir()} != {SECRET}:
                    yield "wrote through a link"
                left = place / "out" / name
                if kind == "file" and SECRET not in left.read_bytes() and "earlier run" not in said:
                    yield f"changed {name}"
                if "error:" not in said and not _uploaded(place):
                    yield "uploaded nothing"

            yield Attack(1, f"{name} is a {kind}", build, EITHER, look=look)


def _of_records(kit: Kit) -> Iterator[Attack]:
    """Every flag with a path, absolute and relative, that nobody else should see."""
    for flag, source in _PATHS.items():
        for form in ("absolute", "relative", "through the folder above", "in a folder called like a repository"):

            def build(place: Path, flag: str = flag, source: str | None = source, form: str = form) -> list[str]:
                home = place / PRIVATE / "sub"
                home.mkdir(parents=True)
                path = home / "thing"
                if source is not None and (kit.folder / source).exists():
                    path = kit.copy(source, home / f"thing{Path(source).suffix}")
                elif source is not None:
                    path.write_text(source)
                word = {
                    "absolute": str(path),
                    "relative": str(path.relative_to(place)),
                    "through the folder above": f"../{place.name}/{path.relative_to(place)}",
                    "in a folder called like a repository": f"{PRIVATE}/thing{path.suffix}",
                }[form]
                if form == "in a folder called like a repository" and path.exists():
                    path.rename(place / word)
                more = {"initializer_token": None} if flag == "initializer_embeds" else {}
                more |= {"report_to": "visualdl"} if flag == "logging_dir" else {}
                more |= {"validation_prompt": None} if flag == "validation_prompts_file" else {}
                more |= {"initializer_token": "auto"} if flag == "clip_model" else {}
                return _command(kit, place, **more | {flag: word})

            def look(place: Path, said: str) -> Iterator[str]:
                up = _uploaded(place)
                yield from (f"published a path in {name}" for name in up if PRIVATE.encode() in up[name])
                if "run.json" in up and not json.loads(up["run.json"])["base_model"].startswith("local:"):
                    yield "published the name of a local base model"
                if not up:
                    yield "uploaded nothing"

            yield Attack(2, f"--{flag}, {form}", build, HARMLESS, look=look)
