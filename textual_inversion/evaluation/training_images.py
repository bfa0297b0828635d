"""The images that a concept was learned from, as recorded beside its file, and as training saw them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textual_inversion.data.hub_images import cached_folder
from textual_inversion.data.resizing import Resizer
from textual_inversion.embeddings.files import ConceptFile
from textual_inversion.hub import data_sets
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.paths import ROOT, from_root, located

_DEMO_FILE, _DEMO_IMAGES = "demo/learned_embeds.pdparams", "cat_toy_images"


def recorded_images(file: ConceptFile, token: str) -> Path:
    """The folder of training images that is recorded beside an embedding.

    Raises:
        SettingsError: nothing is recorded, or there is no such folder here.
    """
    settings = file.run.get("settings") or {}
    recorded = file.of_concept(settings.get("train_data_dir"), token)
    shipped = file.path.resolve() == Path(from_root(_DEMO_FILE)).resolve()
    if recorded and data_sets.is_name(recorded):
        place = cached_folder(recorded)
        if place is None:
            raise SettingsError(f"{file.path} was learned from {recorded}, which is not on this machine")
        return place
    place = located(recorded) if recorded else ROOT / _DEMO_IMAGES if shipped else None
    if place is not None and place.is_dir():
        return place
    if recorded:
        raise SettingsError(f"{file.path} was learned from the images in {recorded}, which is no folder here")
    raise SettingsError(f"{file.path} does not say which images it was learned from")


def as_trained(record: Mapping[str, Any], resolution: int, side_factor: int) -> Resizer:
    """How training brought images to size, so that a squashed image is compared with a squashed one.

    Args:
        record: the run.json beside the file, or nothing.
        resolution: height and width, in pixels, where the record has none.
        side_factor: what the base model's sides are multiples of.
    """
    settings = record.get("settings") or {}
    height, width = (settings.get(side) or resolution for side in ("height", "width"))
    mode = settings.get("resize_mode") or ("center_crop" if settings.get("center_crop") else "squash")
    interpolation, rows = settings.get("interpolation", "bilinear"), settings.get("tile_rows", 2)
    return Resizer(mode, height, width, interpolation, side_factor, rows)
