"""The key of an image: a hash of everything that decides its pixels.

Two images with one key are the same image, so what is on disk under its key need not be drawn again. Every field of a
request is in the key by itself, and so is every field that is added later: unless it has its default, so that a new
field leaves the keys of images without it as they were. What decides all images of a run alike (the base model, the
embedding vectors, the precision) is in it too.
"""

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from textual_inversion.generation.plan import Plan
from textual_inversion.generation.request import ImageRequest
from textual_inversion.generation.start_image import StartImage
from textual_inversion.models.base_model import BaseModel
from textual_inversion.models.identity import content_hash
from textual_inversion.settings.choices import SCHEDULERS
from textual_inversion.system import user_files

_DIGITS = 32  # hexadecimal: 128 bits
_CHUNK = 1 << 20


def image_keys(
    requests: Sequence[ImageRequest],
    common: Mapping[str, Any],
    defaults: Mapping[str, Any],
    contents: Mapping[str, Mapping[Any, Any]] | None = None,
) -> list[str]:
    """The key of each image: 32 hexadecimal digits.

    Args:
        common: what decides all of them alike; values as in a request.
        defaults: field of a request -> what None means there, so that a value that is named and one that is taken
            by default give the same key.
        contents: field of a request -> value -> what it stands for, such as the embedding files behind a label; it is
            in the key in place of the value.

    Raises:
        TypeError: a value is of a kind that has no content here.
    """
    shared = hashlib.sha256(_text({name: _content(value) for name, value in common.items()}))
    usual = {field.name: field.default for field in dataclasses.fields(ImageRequest)}
    keys = []
    for request in requests:
        values = {name: getattr(request, name) for name in usual}
        values |= {name: value for name, value in defaults.items() if values[name] is None}
        chosen = {name: value for name, value in values.items() if value != usual[name]}
        chosen |= {name: meant[values[name]] for name, meant in (contents or {}).items() if values[name] in meant}
        own = shared.copy()
        own.update(_text({name: _content(value) for name, value in chosen.items()}))
        keys.append(own.hexdigest()[:_DIGITS])
    return keys


def plan_keys(
    plan: Plan, model: BaseModel, embeds: Sequence[Mapping[str, Any]], scheduler: str, common: Mapping[str, Any]
) -> list[str]:
    """The key of each image of a settled plan.

    Args:
        embeds: what `ConceptFile.described` says of the embedding files, and the "column" of each that has one.
        scheduler: class of the scheduler of requests that name none.
        common: further settings that decide all images alike.
    """
    files = [{name: value for name, value in file.items() if "file" not in name} for file in embeds]
    columns = {label: file for file in files if (label := file.pop("column", None)) is not None}
    starts = {start: _of_start(start) for start in plan.texts("start") if start is not None}
    tokenizer = model.tokenizer_folder
    everything = {
        "base_model": content_hash(model.folder),
        "tokenizer": None if tokenizer is None else content_hash(tokenizer),
        "embeds": [file for file, one in zip(files, embeds, strict=True) if "column" not in one],
        **common,
    }
    if model.vae_name is not None:
        everything["vae"] = content_hash(model.vae_folder)
    height, width = model.image_size()
    defaults = {"scheduler": scheduler, "height": height, "width": width}
    return image_keys(
        plan.requests, everything, defaults, {"embeds": columns, "start": starts, "scheduler": SCHEDULERS}
    )


def _of_start(start: StartImage) -> dict[str, Any]:
    """What decides an image of a start image: its name does not."""
    return {"image": start.sha256, "mask": start.mask_sha256, "strength": start.strength}


def _text(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode() + b"\n"


def _content(value: Any) -> Any:
    """A value as JSON has it; of a file, a hash of its content: its name decides nothing."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        return [_content(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _content(item) for name, item in value.items()}
    if isinstance(value, Path):
        status = os.stat(value)
        return {"sha256": _sha256(value, status.st_size, status.st_mtime_ns)}
    if isinstance(value, bytes):
        return {"sha256": hashlib.sha256(value).hexdigest()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _content(getattr(value, field.name)) for field in dataclasses.fields(value)}
    raise TypeError(f"{type(value).__name__} has no content that could be part of an image's key")


@functools.lru_cache(maxsize=4096)
def _sha256(path: Path, _size: int, _changed: int) -> str:
    whole = hashlib.sha256()
    with user_files.opened(path, user_files.WEIGHTS) as file:
        while part := file.read(_CHUNK):
            whole.update(part)
    return whole.hexdigest()
