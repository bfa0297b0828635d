"""Make copies of a run's files that others may see: paths of this machine are shortened to their last part.

The name of a home folder is a person's, and a path such as /home/ann/photos/of-my-child reveals even more. So every
absolute path in `run.json` and `config.yaml` keeps only its last part, and the metadata of a `.safetensors` loses its
local paths. All other files stay as they are, as hard links where possible.
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

# `key: value` or `- value`, perhaps in a comment, the value perhaps in quotes.
_YAML_LINE = re.compile(r"""^(#?\s*(?:[\w ]+:|-)\s+)(['"]?)(.*?)(['"]?)$""")


def put_public_copy(source: Path, target: Path) -> None:
    """Put a copy of a file of a run, fit for others to see, at `target`; raises OutputError or OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.name == "run.json":
        atomic.write_json(target, without_local_paths(_record(source)))
    elif source.name == "config.yaml":
        lines = source.read_text(encoding="utf-8").splitlines()
        atomic.write_text(target, "\n".join(map(_public_line, lines)) + "\n")
    elif source.suffix == ".safetensors" and source.name.startswith("learned_embeds"):
        (embedding,) = read_embeddings(source)
        metadata = {key: value for key, value in embedding.metadata.items() if not is_local_path(value)}
        write_safetensors(target, dataclasses.replace(embedding, metadata=metadata))
    else:
        _link(source, target)


def _record(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise OutputError(f"{path} is damaged and cannot be uploaded; remove it or train again") from error


def is_local_path(text: str) -> bool:
    """Whether a text is an absolute path, of this or another system."""
    return os.path.isabs(text) or text.startswith("~") or PureWindowsPath(text).is_absolute()


def without_local_paths(value: Any) -> Any:
    """A JSON value in which every absolute path is shortened to its last part."""
    if isinstance(value, dict):
        return {key: without_local_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_local_paths(item) for item in value]
    return _last_name(value) if isinstance(value, str) and is_local_path(value) else value


def _last_name(path: str) -> str:
    return PureWindowsPath(path).name or path  # knows both kinds of slashes


def _public_line(line: str) -> str:
    match = _YAML_LINE.match(line)
    if not match or not is_local_path(match[3]):
        return line
    return f"{match[1]}{match[2]}{_last_name(match[3])}{match[4]}"


def _link(source: Path, target: Path) -> None:
    source = source.resolve()
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
