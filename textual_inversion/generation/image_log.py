"""The images of a run in logs for VisualDL and other trackers, each tagged with its prompt and its settings."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from PIL import Image

from textual_inversion.generation.labels import value_text
from textual_inversion.generation.png_files import UNREADABLE, opened_png
from textual_inversion.system.reporters import wanted
from textual_inversion.system.tracking import open_tracker

# In every tag; other settings are named where they differ between the images of the run.
_ALWAYS = ("guidance_scale", "num_inference_steps", "seed")
_NEVER = ("prompt", "file", "key", "bytes", "score", "safety_checker")


def log_images(
    folder: Path, entries: Sequence[Mapping[str, Any]], report_to: Sequence[str], logdir: str | os.PathLike[str]
) -> None:
    """Log the images of a run from their files, in their order; one that is missing or damaged is left out.

    The step of an image is its position in the run, so that no two are at one place, whatever their tags.

    Args:
        folder: where the images are.
        entries: the images as in the manifest.
        report_to: some of `choices.TRACKERS`; "none" does nothing.
        logdir: made if it is missing; earlier logs in it stay.

    Raises:
        SettingsError: the package of a reporter is not installed, or it cannot begin.
        OutputError: the folder cannot be made.
    """
    if not wanted(report_to) or not entries:
        return
    varying = _varying(entries)
    with open_tracker(report_to, logdir) as tracker:
        for step, entry in enumerate(entries):
            image = _read(folder, entry["file"])
            if image is not None:
                tracker.image(tag_of(entry, varying), image, step)


def tag_of(entry: Mapping[str, Any], varying: Sequence[str] = ()) -> str:
    """PROMPT/guidance_scale = 7.5, num_inference_steps = 50, seed = 3, and the settings that vary."""
    names = [*_ALWAYS, *(name for name in varying if name not in _ALWAYS)]
    settings = ", ".join(f"{name} = {_text(name, entry.get(name))}" for name in names)
    return f"{entry['prompt']}/{settings}"


def _text(name: str, value: Any) -> str:
    return repr(value) if isinstance(value, float) else value_text(name, value)


def _varying(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    names = dict.fromkeys(name for entry in entries for name in entry if name not in _NEVER)
    return [name for name in names if any(entry.get(name) != entries[0].get(name) for entry in entries)]


def _read(folder: Path, name: str) -> Image.Image | None:
    if PurePath(name).name != name:
        return None
    try:
        with opened_png(folder / name) as image:
            return image.convert("RGB")
    except UNREADABLE:
        return None
