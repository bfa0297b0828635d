"""A folder of generated pictures: numbered files, how each was made, a manifest of all runs.

Pictures of an earlier run are never overwritten: numbers count on. `contact_sheet.png` is always the newest run's, and
`manifest.json` gains an entry per run.
"""

import json
import re
from datetime import datetime, timezone
from pathlib import Path

from textual_inversion.generation import image_grid
from textual_inversion.system import atomic
from textual_inversion.system.errors import OutputError

SHEET, MANIFEST = "contact_sheet.png", "manifest.json"
# Settings of which a run may try several values, and what a label calls them.
SCANNED = {"guidance_scale": "guidance", "num_inference_steps": "steps"}
_NUMBERED = re.compile(r"(\d{4,})-seed\d+\.png")


class Gallery:
    """The pictures of one run.

    Args:
        folder: exists and can be written.
        settings: what holds for all pictures of the run; `images` is added for the manifest.

    Raises:
        OutputError: the folder has a manifest.json that is not of this program.
    """

    def __init__(self, folder: str | Path, settings: dict):
        self.folder = Path(folder)
        self._runs = _earlier_runs(self.folder / MANIFEST)
        self._embeds = settings.get("embeds", [])
        self._run = {"created": datetime.now(timezone.utc).isoformat(timespec="seconds"), **settings, "images": []}
        numbers = [int(m[1]) for path in self.folder.iterdir() if (m := _NUMBERED.fullmatch(path.name))]
        self._first = max(numbers, default=-1) + 1

    def save(self, position: int, image, facts: dict) -> Path:
        """Write picture number `position` of the run.

        Args:
            facts: `prompt`, `seed` and whatever else it was made with; stored in the PNG and in the manifest.
        """
        path = self.folder / f"{self._first + position:04d}-seed{facts['seed']}.png"
        image_grid.save_png(image, path, text=_text_chunks(facts, self._embeds, image.size))
        self._run["images"].append({"file": path.name, **facts})
        return path

    def finish(self, images: list, columns: int) -> None:
        """Write the manifest and the contact sheet: of a run that was interrupted, as far as it came."""
        self._run["images"].sort(key=lambda entry: entry["file"])
        atomic.write_json(self.folder / MANIFEST, {"runs": [*self._runs, self._run]})
        if images:
            labels = [label(entry, self._scanned()) for entry in self._run["images"]]
            sheet = image_grid.contact_sheet(images, columns=min(columns, len(images)), labels=labels)
            image_grid.save_png(sheet, self.folder / SHEET)

    def _scanned(self) -> list[str]:
        """The settings that differ between the pictures."""
        images = self._run["images"]
        return [key for key in SCANNED if len({entry.get(key) for entry in images}) > 1]


def label(entry: dict, scanned: list[str]) -> str:
    """What stands under a picture: its prompt, and the settings that tell it from the others."""
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
        raise OutputError(f"{path} is not a list of pictures made by infer.py; choose another --output_dir")
    return runs


def _text_chunks(facts: dict, embeds: list, size: tuple[int, int]) -> dict[str, str]:
    """What a PNG says about itself: each fact by its name, and all in the one line that other programs show."""
    line = facts["prompt"]
    if facts.get("negative_prompt"):
        line += f"\nNegative prompt: {facts['negative_prompt']}"
    line += f"\nSteps: {facts['num_inference_steps']}, Sampler: {facts['scheduler']}, "
    line += f"CFG scale: {facts['guidance_scale']:g}, Seed: {facts['seed']}, "
    line += f"Size: {size[0]}x{size[1]}, Model: {Path(facts['base_model']).name}"
    plain = {key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}
    return {"parameters": line, **plain, "embeds": json.dumps(embeds)}
