"""What images are called on sheets and pages: settings in short names, values as people write them."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from textual_inversion.settings.choices import SCHEDULERS

# Settings that are written with another name than the flag's; of an empty name the value alone is written.
SHORT_NAMES = {
    "prompt": "",
    "embeds": "",
    "negative_prompt": "without",
    "guidance_scale": "guidance",
    "num_inference_steps": "steps",
    "prompt_weights": "weights",
}
SHORT_SCHEDULERS = {class_name: name for name, class_name in SCHEDULERS.items()}


def value_of(entry: Mapping[str, Any], name: str) -> Any:
    """The value that an image has on an axis, in a form that can be looked up; `size` is width and height together."""
    if name == "size":
        return f"{entry.get('width')}x{entry.get('height')}"
    value = entry.get(name)
    return json.dumps(value, sort_keys=True) if isinstance(value, (list, dict)) else value


def scores_of(entries: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Name -> mean score of some images: image, text."""
    found: dict[str, list[float]] = {}
    for entry in entries:
        score = entry.get("score")
        for name, value in (score if isinstance(score, dict) else {"score": score}).items():
            if isinstance(value, (int, float)):
                found.setdefault(name.removesuffix("_similarity"), []).append(value)
    return {name: sum(values) / len(values) for name, values in found.items()}


def value_text(name: str, value: Any) -> str:
    """A value of a setting as text: 7.5, euler-a, on."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):  # a file that is added with a factor
        return f"{value.get('file')} x {value_text(name, value.get('scale', 1))}"
    if isinstance(value, (list, tuple)):
        return ", ".join(value_text(name, one) for one in value)
    if value is None or value == "":
        return "nothing"
    return SHORT_SCHEDULERS.get(value, value) if name == "scheduler" else str(value)


def setting_text(name: str, value: Any) -> str:
    """A setting and its value: `guidance 7.5`; a prompt stands for itself."""
    short = SHORT_NAMES.get(name, name)
    text = value_text(name, value)
    return f"{short} {text}" if short else text


def caption(entry: Mapping[str, Any], varying: Iterable[str]) -> str:
    """The text under an image: its prompt, its seed, and the settings that differ between the images."""
    keys = ["seed", *(key for key in varying if key not in ("prompt", "seed"))]
    return f"{entry['prompt']}  ({', '.join(setting_text(key, value_of(entry, key)) for key in keys)})"
