"""A sheet of the training images and of what their masks leave to be learned, to be looked at before a long run."""

from pathlib import Path

import numpy as np
from PIL import Image

from textual_inversion.data.dataset import TrainingSet
from textual_inversion.generation import image_grid, png_files

FILE_NAME = "masks.png"
_MOST = 24  # images on the sheet
_COLUMNS = 6  # an image and what is learned of it, three times
_COVER = (225, 40, 150)  # a colour that few photos have
_COVERED = 0.8  # share of that colour where nothing is learned


def save_mask_sheet(folder: Path, data: TrainingSet) -> Path:
    """Write the first images as the model sees them, each beside itself with what is not learned covered in pink.

    Args:
        data: has masks.

    Raises:
        OutputError: it cannot be written.
    """
    shown = []
    for index, image in enumerate(data.previews[:_MOST]):
        shown += [image, covered(image, data.masks.whole(index))]
    path = folder / FILE_NAME
    png_files.save_png(image_grid.contact_sheet(shown, columns=min(_COLUMNS, len(shown))), path)
    return path


def covered(image: Image.Image, weights: np.ndarray) -> Image.Image:
    """An RGB image with a cover over what has no weight; weights are float32 [h, w] in [0, 1], of any size."""
    weight = Image.fromarray(np.round(weights * 255).astype(np.uint8)).resize(image.size, Image.Resampling.BILINEAR)
    hidden = Image.blend(image.convert("RGB"), Image.new("RGB", image.size, _COVER), _COVERED)
    return Image.composite(image.convert("RGB"), hidden, weight)
