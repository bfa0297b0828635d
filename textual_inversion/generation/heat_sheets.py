"""Sheets that show where the words of a prompt act: the image, and for each word its attention map laid over it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from textual_inversion.generation import image_grid, png_files
from textual_inversion.generation.request import ImageRequest
from textual_inversion.models.attention_maps import word_map
from textual_inversion.models.base_model import BaseModel
from textual_inversion.system import atomic

FOLDER = "heat_maps"
_MOST_WORDS = 23  # of a prompt: six rows of four with the image itself
_COLUMNS = 4
# Colours of a map, from where a word does not act to where it does most.
_COLOURS = np.array([(24, 32, 72), (56, 88, 140), (60, 140, 130), (226, 170, 60), (252, 246, 190)], dtype=np.float64)


class HeatSheets:
    """Writes the sheets of a folder of images into its subfolder, each under the name of its image.

    Args:
        folder: of the images.
        name_of: position of an image -> its file name.
        model: whose prompt encoder knows which tokens are one word.
    """

    def __init__(self, folder: Path, name_of: Callable[[int], str], model: BaseModel):
        self.folder = Path(folder) / FOLDER
        self._name_of, self._model = name_of, model
        self._maps: dict[int, np.ndarray] = {}

    def is_there(self, position: int) -> bool:
        """Whether the sheet of an image is written."""
        return (self.folder / self._name_of(position)).is_file()

    def take(self, position: int, maps: np.ndarray) -> None:
        """Take the maps of an image that is about to be written: float32 [M, H, W]."""
        self._maps[position] = maps

    def write(self, position: int, image: Image.Image, request: ImageRequest) -> None:
        """Write the sheet of an image; raises OutputError."""
        maps = self._maps.pop(position)
        places = self._model.text_encoders[0].encode_ids.places(request.prompt, reads_marks=request.prompt_weights)
        atomic.make_folder(self.folder)
        png_files.save_png(sheet(image, maps, places), self.folder / self._name_of(position))


def sheet(image: Image.Image, maps: np.ndarray, places: list[tuple[str, list[int]]]) -> Image.Image:
    """The image, and beside it each word's map over it; each map is as bright as its own largest value.

    Args:
        maps: float32 [M, H, W].
        places: words and the positions of their tokens, as `PromptEncoder.places` gives them.
    """
    shown = places[:_MOST_WORDS]
    overlays = [overlay(image, word_map(maps, positions)) for _, positions in shown]
    labels = ["", *(word for word, _ in shown)]
    return image_grid.contact_sheet([image, *overlays], columns=min(_COLUMNS, len(labels)), labels=labels)


def overlay(image: Image.Image, heat: np.ndarray) -> Image.Image:
    """An image under a map [H, W]: dark and grey where a word does not act, bright where it does."""
    scaled = np.asarray(heat, dtype=np.float64)
    low, high = float(scaled.min()), float(scaled.max())
    scaled = (scaled - low) / (high - low) if high > low else np.zeros_like(scaled)
    layer = Image.fromarray((255 * scaled).round().astype(np.uint8)).resize(image.size, Image.Resampling.BILINEAR)
    level = np.asarray(layer, dtype=np.float64) / 255  # (height, width)
    at = level * (len(_COLOURS) - 1)
    below = np.minimum(at.astype(int), len(_COLOURS) - 2)
    part = (at - below)[..., None]
    colours = _COLOURS[below] * (1 - part) + _COLOURS[below + 1] * part
    grey = np.asarray(image.convert("L").convert("RGB"), dtype=np.float64)
    return Image.fromarray((0.4 * grey + 0.6 * colours).round().astype(np.uint8))
