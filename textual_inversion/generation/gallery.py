"""A folder of generated images: numbered files that record how they were made, and a manifest of all runs.

Images of an earlier run are never overwritten: the numbers continue. `contact_sheet.png` always shows the newest run,
and every run adds an entry to `manifest.json`.
"""

import json
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from PIL import Image

from textual_inversion.generation import image_grid
from textual_inversion.system import atomic
from textual_inversion.system.errors import OutputError

SHEET, MANIFEST = "contact_sheet.png", "manifest.json"
# Settings that may have several values in one run, with their names in a label.
SCANNED = {"guidance_scale": "guidance", "num_inference_steps": "steps"}
_NUMBERED = re.compile(r"(\d{4,})-seed\d+\.png")


class Gallery:
    """The images of one run.

    Args:
        folder: exists and can be written.
        settings: what all images of the run have in common; they are written to the manifest beside `images`.

    Raises:
        OutputError: the folder has a manifest.json that this program did not write.
    """

    def __init__(self, folder: str | Path, settings: dict[str, Any]):
        self.folder = Path(folder)
        self._runs = _earlier_runs(self.folder / MANIFEST)
        self._embeds = settings.get("embeds", [])
        self._run = {"created": datetime.now(timezone.utc).isoformat(timespec="seconds"), **settings, "images": []}
        numbers = [int(m[1]) for path in self.folder.iterdir() if (m := _NUMBERED.fullmatch(path.name))]
        self._first = max(numbers, default=-1) + 1

    def save(self, position: int, image: Image.Image, facts: dict[str, Any]) -> Path:
        """Write image number `position` of the run, and return its path.

        Args:
            facts: `prompt`, `seed` and everything else it was made with; stored in the PNG and in the manifest.

        Raises:
            OutputError: the file cannot be written.
        """
        path = self.folder / f"{self._first + position:04d}-seed{facts['seed']}.png"
        image_grid.save_png(image, path, text=_text_chunks(facts, self._embeds, image.size))
        self._run["images"].append({"file": path.name, **facts})
        return path

    def finish(self, images: list[Image.Image], columns: int) -> None:
        """Write the manifest and the contact sheet; after an interruption, of the images made so far.

        Raises:
            OutputError: one of the files cannot be written.
        """
        self._run["images"].sort(key=lambda entry: entry["file"])
        atomic.write_json(self.folder / MANIFEST, {"runs": [*self._runs, self._run]})
        if images:
            labels = [label(entry, self._scanned()) for entry in self._run["images"]]
            sheet = image_grid.contact_sheet(images, columns=min(columns, len(images)), labels=labels)
            image_grid.save_png(sheet, self.folder / SHEET)

    def _scanned(self) -> list[str]:
        """The settings that differ between the images."""
        images = self._run["images"]
        return [key for key in SCANNED if len({entry.get(key) for entry in images}) > 1]


def label(entry: dict[str, Any], scanned: list[str]) -> str:
    """The text under an image: its prompt, its seed, and the settings that differ between the images."""
    settings = "".join(f", {SCANNED[key]} {entry[key]:g}" for key in scanned)
    return f"{entry['prompt']}  (seed {entry['seed']}{settings})"


def _earlier_runs(path: Path) -> list:
    if not path.exists():
        return []
    try:
        runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        runs = None
    if not isinstance(runs, list):
        raise OutputError(f"{path} was not written by infer.py; choose another --output_dir")
    return runs


def _text_chunks(facts: dict[str, Any], embeds: list, size: tuple[int, int]) -> dict[str, str]:
    """The text chunks of a PNG: each fact under its own name, and the main ones in one text for other programs."""
    line = facts["prompt"]
    if facts.get("negative_prompt"):
        line += f"\nNegative prompt: {facts['negative_prompt']}"
    line += f"\nSteps: {facts['num_inference_steps']}, Sampler: {facts['scheduler']}, "
    line += f"CFG scale: {facts['guidance_scale']:g}, Seed: {facts['seed']}, "
    line += f"Size: {size[0]}x{size[1]}, Model: {Path(facts['base_model']).name}"
    plain = {key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}
    return {"parameters": line, **plain, "embeds": json.dumps(embeds)}
