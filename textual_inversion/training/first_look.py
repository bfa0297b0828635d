"""A look at the training images before training: what is wrong with them, in lines, and all of them in `images.png`."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from textual_inversion.data import image_checks
from textual_inversion.data.image_sequence import ImageSequence
from textual_inversion.data.previews import Previews
from textual_inversion.data.read_images import ReadImages
from textual_inversion.data.resizing import Frame, Resizer
from textual_inversion.evaluation.clip import ClipScorer, find_clip
from textual_inversion.generation import image_grid, png_files
from textual_inversion.models.base_model import BaseModel
from textual_inversion.settings.concept import Concept
from textual_inversion.settings.train_data import ImageSettings
from textual_inversion.system.errors import SettingsError

SHEET_NAME = "images.png"
_MOST_SHOWN = 60  # images on the sheet
_COLUMNS = 6
_LEFT_OUT = (200, 30, 60)  # the colour that covers what a mask leaves out
_COVER = 0.6


def find_scorer(model: BaseModel, clip_model: str | None) -> ClipScorer | None:
    """The CLIP model in whose space images are compared: the one that is named, else the base model's own, if any.

    Raises:
        SettingsError: the one that is named is not to be had.
    """
    try:
        return ClipScorer(find_clip(model.folder, clip_model))
    except SettingsError:
        if clip_model is not None:
            raise
        return None


class FirstLook:
    """The training images of a run as the model will see them.

    Args:
        read: images, prompts and masks.
        concepts: of the run.
        settings: how images are brought to the model's shape.
        size: (height, width) in pixels.
        multiple: the sides of buckets are multiples of this.
    """

    def __init__(
        self,
        read: ReadImages,
        concepts: Sequence[Concept],
        settings: ImageSettings,
        size: tuple[int, int],
        multiple: int,
    ):
        self._read, self._concepts = read, concepts
        rows = settings.tile_rows or 1
        self._resizer = Resizer(settings.resize_mode, *size, settings.interpolation, multiple, rows)
        shapes, buckets = self._resizer.buckets([file.size for file in read.files])
        self._shapes = [shapes[bucket] for bucket in buckets]

    def findings(self, scorer: ClipScorer | None) -> dict[str, list[str]]:
        """Check -> what is to be said, in lines; of the checks that found something.

        Args:
            scorer: None: colours and edges are compared in the place of CLIP features.
        """
        found: dict[str, list[str]] = {}
        for index, concept in enumerate(self._concepts):
            images = enumerate(self._read.images)
            own = [number for number, image in images if image.concept == index and not image.is_contrast]
            of = f"{concept.placeholder_token}: " if len(self._concepts) > 1 else ""
            for finding in self._of_concept(own, concept, scorer):
                found.setdefault(finding.check, []).append(of + finding.text)
        return found

    def _of_concept(
        self, own: Sequence[int], concept: Concept, scorer: ClipScorer | None
    ) -> list[image_checks.Finding]:
        looks, framed = [], Previews(len(own))
        for number in own:
            file = self._read.files[number]
            original = file.load()
            parts = self._frames(number)
            whole = len(parts) > 1  # of which each part alone says little
            shape = self._shapes[number]
            image = self._resizer.resize(original, shape) if whole else self._resizer.cut(original, parts[0])
            crops = self._resizer.mode != "squash"
            looks.append(image_checks.look_at(file.path.name, original, image, crops=crops))
            framed.add(image)
        features = backgrounds = None
        if scorer is not None:
            features = scorer.image_features(framed.images)
            covered = ImageSequence(range(len(own)), lambda i: image_checks.background_of(framed.images[i]))
            backgrounds = scorer.image_features(covered)
        return image_checks.problems(
            looks, features, backgrounds,
            is_style=concept.learnable_property == "style", has_masks=bool(self._read.masks),
        )  # fmt: skip

    def save_sheet(self, folder: Path) -> Path:
        """Write `images.png`: each image, or each of its parts, as the model sees it, with its prompt.

        What its mask leaves out is covered.

        Raises:
            OutputError: it cannot be written.
        """
        parts = [(number, frame) for number in range(len(self._read.files)) for frame in self._frames(number)]
        shown = parts[:_MOST_SHOWN]
        labels = [f"{self._read.files[i].path.name}: {self._read.images[i].prompts[0]}" for i, _ in shown]
        left_out = len(parts) - len(shown)
        title = f"What the model will see; {left_out} more" if left_out else "What the model will see"
        tiles = [self._tile(number, frame) for number, frame in shown]
        sheet = image_grid.contact_sheet(tiles, columns=_COLUMNS, labels=labels, title=title)
        png_files.save_png(sheet, folder / SHEET_NAME)
        return folder / SHEET_NAME

    def _frames(self, number: int) -> list[Frame]:
        """The parts of an image that are learned."""
        file = self._read.files[number]
        return self._resizer.frames(file.size, self._shapes[number], file.focus)

    def _tile(self, number: int, frame: Frame) -> Image.Image:
        image = self._resizer.cut(self._read.files[number].load(), frame)
        if self._read.masks:
            mask = self._resizer.cut(self._read.masks[number].load(), frame)
            cover = mask.point(lambda value: round(_COVER * (255 - value)))
            image.paste(Image.new("RGB", image.size, _LEFT_OUT), (0, 0), cover)
        image.thumbnail((image_grid.MAX_CELL, image_grid.MAX_CELL), Image.Resampling.BICUBIC)
        return image
