"""From what an image was made with back to the command line of `infer.py` that makes exactly this image.

Every argument is quoted for a POSIX shell, and a value that begins with a hyphen is not taken for a flag.
"""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from textual_inversion.data.alternatives import literal
from textual_inversion.generation.labels import SHORT_SCHEDULERS
from textual_inversion.settings.flag import all_flags
from textual_inversion.settings.generation import InferConfig
from textual_inversion.system.paths import how_to_call, in_shell

# Not into the folder that the image lies in: its contact sheet would be replaced.
_AFTER = "--num_images 1 --output_dir outputs-again"
_FLAGS = {"base_model": "pretrained_model_name_or_path"}  # facts that have another name than their flag
_TEMPLATES = ("prompt", "negative_prompt")  # whose flags read braces as alternatives
_NOT_REPEATED = ("embeds", "rename", "compare", "num_images", "output_dir", "score", "safety_checker")


def command(facts: Mapping[str, Any], embeds: Sequence[Mapping[str, Any]]) -> str:
    """The command line for one image.

    Args:
        facts: of the image, as in the manifest.
        embeds: the run's embedding files.
    """
    parts = [argument(name, value, embeds) for name, value in {"embeds": None, **facts}.items()]
    return " ".join(filter(None, [before(), *parts, _AFTER]))


def before() -> str:
    """How `infer.py` is called."""
    return how_to_call("infer.py")


def after() -> str:
    """What ends the command of every image: one image, in a folder of its own."""
    return _AFTER


def argument(name: str, value: Any, embeds: Sequence[Mapping[str, Any]]) -> str:
    """The part of the command line that one fact decides; "" for what is not set and for what is no setting.

    Args:
        embeds: the run's embedding files; of a comparison those of the column `value` of the fact "embeds".
    """
    if name == "embeds":
        return _embeds([one for one in embeds if one.get("column") in (None, value)])
    if name == "safety_checker":
        return "--safety_checker" if value else ""
    flag = _FLAGS.get(name, name)
    if flag not in all_flags(InferConfig) or name in _NOT_REPEATED or _is_unset(value):
        return ""
    if name == "scheduler":
        return f"--scheduler {SHORT_SCHEDULERS[value]}" if value in SHORT_SCHEDULERS else ""
    if name in _TEMPLATES:
        value = literal(value)
    if value is True:
        return f"--{flag}"
    values = [_text(one) for one in (value if isinstance(value, (list, tuple)) else [value])]
    if len(values) == 1 and values[0].startswith("-"):
        return f"--{flag}={shlex.quote(values[0])}"
    return " ".join([f"--{flag}", *map(shlex.quote, values)])


def _embeds(embeds: Sequence[Mapping[str, Any]]) -> str:
    files = [in_shell(file) for one in embeds for file in (one.get("file"), one.get("partner")) if file]
    renamed = [shlex.quote(f"{old}={new}") for one in embeds for old, new in (one.get("renamed") or {}).items()]
    return " ".join([*(["--embeds", *files] if files else []), *(["--rename", *renamed] if renamed else [])])


def _is_unset(value: Any) -> bool:
    return value is None or value is False or value == "" or value == []  # 0 is a value, and equals False


def _text(value: Any) -> str:
    if isinstance(value, dict):  # a file that is added with a factor
        return f"{value['file']}:{value.get('scale', 1)!r}"
    return repr(value) if isinstance(value, float) else str(value)
