"""Images that others are made from, with their masks: found, checked and known by their hash before anything is drawn.

Neither Paddle nor a model is needed here; `from_image.py` draws.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops

from textual_inversion.data.image_folder import find_images
from textual_inversion.data.images import load_alpha, load_image
from textual_inversion.data.masks import find_masks
from textual_inversion.system import user_files
from textual_inversion.system.errors import ImageError, SettingsError
from textual_inversion.system.paths import portable

STRENGTH = 0.8  # of those pipelines, where none is given
_WHITE = "white is drawn anew"

Note = Callable[[str], None]


@dataclass(frozen=True)
class StartImage:
    """What an image is made from.

    Attributes:
        path: of an image file.
        sha256: of that file, in hexadecimal.
        size: (height, width) of the upright image in pixels.
        strength: the share of the denoising steps that is taken, in (0, 1]: 1 leaves nothing or little of the image.
        mask: path of an image whose white parts are drawn anew and whose black parts stay bit for bit, or None.
        mask_sha256: of that file.
    """

    path: str
    sha256: str
    size: tuple[int, int]
    strength: float = STRENGTH
    mask: str | None = None
    mask_sha256: str | None = None

    @property
    def batch_settings(self) -> tuple:
        """What the images of a batch must have in common."""
        return self.strength, self.mask is None, self.size

    @property
    def facts(self) -> dict[str, Any]:
        """What is recorded of it beside an image."""
        facts = {"image": portable(self.path), "image_sha256": self.sha256, "strength": self.strength}
        if self.mask is not None:
            facts |= {"mask_image": portable(self.mask), "mask_sha256": self.mask_sha256}
        return facts

    def denoising_steps(self, num_inference_steps: int) -> int:
        """How many of the steps are taken; 0 where the strength is less than one of them."""
        return min(int(num_inference_steps * self.strength), num_inference_steps)

    def check_steps(self, num_inference_steps: int) -> None:
        """Raise SettingsError where the strength is less than one step."""
        if self.denoising_steps(num_inference_steps) < 1:
            raise SettingsError(
                f"--strength {self.strength:g} of {num_inference_steps} denoising steps is less than one step; raise "
                "--strength or --num_inference_steps"
            )

    def load(self) -> Image.Image:
        """The image: upright, mode "RGB"; raises ImageError, also where the file is another one by now."""
        _check_unchanged(self.path, self.sha256)
        return load_image(self.path)

    def load_mask(self) -> Image.Image:
        """The mask, as large as the image: mode "L", 255 where it is drawn anew, 0 where the image stays.

        Raises:
            ImageError: as `load`.
        """
        _check_unchanged(self.mask, self.mask_sha256)
        height, width = self.size
        return _read_mask(self.mask).resize((width, height), Image.Resampling.BILINEAR)


def start_images(
    image: str | None, strengths: Sequence[float] | None, mask: str | None, note: Note
) -> list[StartImage | None]:
    """What images are made from: each image with each strength; [None] where they are made from nothing.

    Args:
        image: --image: a file, or a folder of images.
        strengths: --strength, or None.
        mask: --mask_image: a file for all images, or a folder of files with the images' names; or None.
        note: called with what was done to an image, and with masks of another size, in lines.

    Raises:
        SettingsError: strengths or a mask without an image.
        ImageError: an image or mask is missing or cannot be used, or a mask is black everywhere.
    """
    if image is None:
        given = "--strength" if strengths is not None else "--mask_image" if mask is not None else None
        if given is not None:
            raise SettingsError(f"{given} has no effect without an image to start from; add --image FILE")
        return [None]
    paths = find_images(image, note) if Path(image).is_dir() else [Path(image)]
    masks = _masks(mask, paths, note)
    looked_at = [_looked_at(path, note) for path in paths]
    mask_hashes = _check_masks(masks, [size for _, size in looked_at], note)
    return [
        StartImage(str(path), sha256, size, strength, one and str(one), mask_hashes.get(one))
        for path, (sha256, size), one in zip(paths, looked_at, masks, strict=True)
        for strength in strengths or (STRENGTH,)
    ]


def _looked_at(path: Path, note: Note) -> tuple[str, tuple[int, int]]:
    """SHA-256 of a file that holds an image, and the image's size."""
    image = load_image(path, note)
    return _sha256(path), (image.height, image.width)


def _masks(mask: str | None, paths: list[Path], note: Note) -> list[Path | None]:
    """The mask of each image."""
    if mask is None:
        return [None] * len(paths)
    if Path(mask).is_dir():
        return find_masks(mask, paths, note, meaning=_WHITE)
    return [Path(mask)] * len(paths)


def _check_masks(masks: list[Path | None], sizes: list[tuple[int, int]], note: Note) -> dict[Path, str]:
    """Path of each mask -> its SHA-256; each is looked at once."""
    hashes = {}
    for path in dict.fromkeys(path for path in masks if path is not None):
        found = _read_mask(path, note)
        if found.getextrema()[1] == 0:
            raise ImageError(f"{path}: is black everywhere, so nothing would be drawn; {_WHITE}")
        own = (found.height, found.width)
        others = [size for one, size in zip(masks, sizes, strict=True) if one == path and size != own]
        if others:
            shown = f"its image, {others[0][1]}x{others[0][0]}" if len(others) == 1 else f"{len(others)} images"
            note(f"{path}: has {own[1]}x{own[0]} pixels and is scaled to the size of {shown}")
        hashes[path] = _sha256(path)
    return hashes


def _read_mask(path: str | Path, note: Note = lambda line: None) -> Image.Image:
    """Mode "L" in its own size; transparent parts are black."""
    return ImageChops.multiply(load_image(path, note).convert("L"), load_alpha(path))


def _sha256(path: str | Path) -> str:
    try:
        return user_files.sha256(path, user_files.IMAGE)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error}); check its permissions") from error


def _check_unchanged(path: str | Path, sha256: str | None) -> None:
    if _sha256(path) != sha256:
        raise ImageError(f"{path}: was changed while images were made from it; start again")
