"""Copies of a run's files for others to see: what records say of folders on this machine is cut to the last name.

A home folder's name is a person's, and a path such as /home/ann/photos/of-my-child says more. So of every absolute path
in `run.json` and `config.yaml` only the last name stays, and the metadata of a `.safetensors` names its base model only
where that is a hub's name. Everything else goes up as it is, as a second name of the same file where that is possible.
"""

import dataclasses
import json
import os
import re
import shutil
from pathlib import Path, PureWindowsPath
from typing import Any

from textual_inversion.formats.embedding_file import read_embeddings, write_safetensors
from textual_inversion.system import atomic
from textual_inversion.system.errors import OutputError

# `key: value`, `- value`, in a comment or not; the value perhaps in quotes.
_YAML_LINE = re.compile(r"""^(#?\s*(?:[\w ]+:|-)\s+)(['"]?)(.*?)(['"]?)$""")


def put_public_copy(source: Path, target: Path) -> None:
    """Put a file of a run where it will be uploaded from; raises OutputError or OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.name == "run.json":
        atomic.write_json(target, without_places(_record(source)))
    elif source.name == "config.yaml":
        lines = source.read_text(encoding="utf-8").splitlines()
        atomic.write_text(target, "\n".join(map(_public_line, lines)) + "\n")
    elif source.suffix == ".safetensors" and source.name.startswith("learned_embeds"):
        (embedding,) = read_embeddings(source)
        metadata = {key: value for key, value in embedding.metadata.items() if not is_place(value)}
        write_safetensors(target, dataclasses.replace(embedding, metadata=metadata))
    else:
        _link(source, target)


def _record(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise OutputError(f"{path} is damaged and cannot be uploaded; remove it, or train again") from error


def is_place(text: str) -> bool:
    """Whether a text is a path that only this machine has."""
    return os.path.isabs(text) or text.startswith("~") or PureWindowsPath(text).is_absolute()


def without_places(value: Any) -> Any:
    """A JSON value in which every absolute path is cut to its last name."""
    if isinstance(value, dict):
        return {key: without_places(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_places(item) for item in value]
    return _last_name(value) if isinstance(value, str) and is_place(value) else value


def _last_name(path: str) -> str:
    return PureWindowsPath(path).name or path  # knows both kinds of slashes


def _public_line(line: str) -> str:
    match = _YAML_LINE.match(line)
    if not match or not is_place(match[3]):
        return line
    return f"{match[1]}{match[2]}{_last_name(match[3])}{match[4]}"


def _link(source: Path, target: Path) -> None:
    source = source.resolve()
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
