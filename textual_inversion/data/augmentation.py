"""Training images with other colours and angles: a few variants of each, so that the VAE still sees each only once.

Variant 0 is the image itself. What changes in any other is a function of the seed, the image and the variant alone, so
a resumed run and every process have the same ones. Masks are turned and cropped like their images; colours are the
images' alone.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance

from textual_inversion.data.random_streams import Purpose, generator
from textual_inversion.settings.train_data import ImageSettings

_MOST_PARTS = 1 << 16  # of one image


@dataclass(frozen=True)
class Change:
    """How one variant differs from its image.

    Attributes:
        brightness, contrast, saturation: factors; 1: as it is.
        hue: turn of all hues, as a share of the colour circle.
        angle: degrees, counter-clockwise.
        crop: position of the part that is cut out, (down, right) in [0, 1) as fractions of the free space; None: where
            the mode of resizing has it.
    """

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0
    angle: float = 0.0
    crop: tuple[float, float] | None = None

    def colours(self, image: Image.Image) -> Image.Image:
        """An RGB image with its colours changed: brightness, contrast, saturation, hue, in this order."""
        for kind, factor in (
            (ImageEnhance.Brightness, self.brightness),
            (ImageEnhance.Contrast, self.contrast),
            (ImageEnhance.Color, self.saturation),
        ):
            if factor != 1.0:
                image = kind(image).enhance(factor)
        return _with_hues_turned(image, self.hue) if self.hue else image


UNCHANGED = Change()


def _with_hues_turned(image: Image.Image, turn: float) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    turned = (np.asarray(hue).astype(np.int64) + round(turn * 256)) % 256
    return Image.merge("HSV", (Image.fromarray(turned.astype(np.uint8)), saturation, value)).convert("RGB")


@dataclass(frozen=True)
class Augmentation:
    """The variants of all images of a run.

    Attributes:
        seed: 64-bit non-negative integer.
        variants: of each image (K).
        brightness, contrast, saturation, hue, rotation: the largest changes to either side, as in the flags.
        crops: whether every variant is cut out elsewhere.
    """

    seed: int = 0
    variants: int = 1
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    rotation: float = 0.0
    crops: bool = False

    def changes(self, image: int, part: int = 0) -> list[Change]:
        """The K variants of one image, or of a part of it, both given by their index."""
        return [self.change(image, variant, part) for variant in range(self.variants)]

    def change(self, image: int, variant: int, part: int = 0) -> Change:
        """What changes in one variant of one image."""
        if variant == 0:
            return UNCHANGED
        drawn = generator(self.seed, Purpose.AUGMENTATION, step=variant, index=image * _MOST_PARTS + part).uniform(
            -1.0, 1.0, 7
        )
        crop = ((drawn[5] + 1) / 2, (drawn[6] + 1) / 2)
        return Change(
            brightness=1 + self.brightness * drawn[0],
            contrast=1 + self.contrast * drawn[1],
            saturation=1 + self.saturation * drawn[2],
            hue=self.hue * drawn[3],
            angle=self.rotation * drawn[4],
            crop=crop if self.crops else None,
        )


NONE = Augmentation()


def make_augmentation(settings: ImageSettings, seed: int) -> Augmentation:
    """The variants that the settings of a run ask for."""
    return Augmentation(
        seed,
        settings.variants,
        settings.brightness_jitter,
        settings.contrast_jitter,
        settings.saturation_jitter,
        settings.hue_jitter,
        settings.rotation,
        crops=settings.resize_mode == "random_crop",
    )
