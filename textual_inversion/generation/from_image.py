"""Draw from an image: image to image (arXiv 2108.01073), and inpainting with a U-Net that knows no masks.

ppdiffusers' own image-to-image pipelines do it. They are given the noisy latents to begin with, so that an image
remains a function of its request alone: a start image is encoded by itself, as the mean of its posterior, which takes
no noise; the noise that is added comes from the image's own generator.

Of a masked image, the latents outside the mask are brought back after every step, as ppdiffusers' inpainting pipelines
do it; those take latents of four channels only. Pixels differ all the same, since the VAE is not exact and one latent
stands for many pixels. So the pixels outside the mask are those of the start image in the end.
"""

import copy
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from PIL import Image

from textual_inversion.data.images import fit, to_array
from textual_inversion.generation.request import ImageRequest
from textual_inversion.generation.start_image import StartImage
from textual_inversion.models.base_model import BaseModel
from textual_inversion.models.config_checks import IN_USE, explained
from textual_inversion.system.device import to_device
from textual_inversion.system.errors import SettingsError

_KEPT = 16  # prepared start images in memory; each takes 4 bytes a pixel


@dataclass(frozen=True)
class _Prepared:
    """A start image in the size that is drawn.

    Attributes:
        image: mode "RGB".
        mask: mode "L", or None.
        latents: float32 [C, H, W], scaled as the U-Net takes them.
    """

    image: Image.Image
    mask: Image.Image | None
    latents: paddle.Tensor


def check_model(model: BaseModel, starts: Sequence[StartImage | None]) -> None:
    """Refuse a kind of model that cannot draw from images; raises SettingsError."""
    if all(start is None for start in starts):
        return
    kind = model.index["_class_name"]
    if model.family.image_to_image is None:
        raise SettingsError(
            f"--image: {model.name} is a model for {kind}, and ppdiffusers draws from an image with Stable Diffusion "
            "1.x, 2.x and XL and AltDiffusion only; leave --image out, or take one of those"
        )


def drawn_size(
    model: BaseModel, start: StartImage, height: int | None = None, width: int | None = None
) -> tuple[int, int]:
    """(height, width) in pixels of what is drawn from an image.

    Without a height and width it is the image's own size, in multiples that the model can make, and with no more
    pixels than the model was trained for. With one of them the other keeps the aspect ratio.

    Raises:
        SettingsError: the model cannot make images of this size.
    """
    own_height, own_width = start.size
    if height is not None and width is not None:
        return model.image_size(height, width)
    if height is not None:
        return model.image_size(height, _near(own_width * height / own_height, model))
    if width is not None:
        return model.image_size(_near(own_height * width / own_width, model), width)
    scale = min(1.0, model.resolution / math.sqrt(own_height * own_width))
    return _near(own_height * scale, model), _near(own_width * scale, model)


def _near(side: float, model: BaseModel) -> int:
    """The multiple of the model's factor that is nearest to a number of pixels."""
    return max(model.side_factor, round(side / model.side_factor) * model.side_factor)


def start_notes(model: BaseModel, requests: Sequence[ImageRequest]) -> list[str]:
    """A line for each size of start images that are scaled or cropped.

    Args:
        requests: with heights and widths.

    Raises:
        SettingsError: this kind of model cannot draw from images.
    """
    check_model(model, [request.start for request in requests])
    sizes = dict.fromkeys((one.start.size, (one.height, one.width)) for one in requests if one.start is not None)
    return [
        f"images of {own[1]}x{own[0]} pixels are drawn at {drawn[1]}x{drawn[0]}; --height and --width choose another "
        "size"
        for own, drawn in sizes
        if own != drawn
    ]


class Starts:
    """Start images, prepared when they are wanted: the last ones are kept.

    Args:
        model: whose VAE encodes them.
    """

    def __init__(self, model: BaseModel):
        self._model, self._kept, self._most = model, OrderedDict(), _KEPT

    def _prepared(self, start: StartImage, size: tuple[int, int]) -> _Prepared:
        key = (start.path, start.sha256, start.mask, start.mask_sha256, size)
        if key not in self._kept:
            self._kept[key] = _prepare(self._model, start, size)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def latents(self, starts: Sequence[StartImage], size: tuple[int, int]) -> paddle.Tensor:
        """The latents of a batch's start images: float32 [B, C, H, W], scaled as the U-Net takes them."""
        self._most = max(_KEPT, len(starts))
        return paddle.stack([self._prepared(start, size).latents for start in starts])

    def masks(self, starts: Sequence[StartImage], size: tuple[int, int]) -> paddle.Tensor | None:
        """1 for each latent that is drawn anew, else 0: float32 [B, 1, H, W]; None for a batch without masks.

        A latent is drawn anew if the mask has any pixel there that is not black, so that fine lines are not lost.
        """
        if starts[0].mask is None:
            return None
        factor, (height, width) = self._model.vae_scale_factor, size
        masks = np.stack([np.asarray(self._prepared(start, size).mask) > 0 for start in starts])
        blocks = masks.reshape(len(starts), 1, height // factor, factor, width // factor, factor)
        return to_device(blocks.any(axis=(3, 5)).astype(np.float32))

    def finished(self, start: StartImage, size: tuple[int, int], image: Image.Image) -> Image.Image:
        """A drawn image with the pixels of the start image outside the mask; grey parts of the mask blend both."""
        if start.mask is None:
            return image
        prepared = self._prepared(start, size)
        return Image.composite(image.convert("RGB"), prepared.image, prepared.mask)


@paddle.no_grad()
def _prepare(model: BaseModel, start: StartImage, size: tuple[int, int]) -> _Prepared:
    image = fit(start.load(), *size, center_crop=True, interpolation="lanczos")
    mask = None
    if start.mask is not None:
        mask = fit(start.load_mask(), *size, center_crop=True, interpolation="bilinear")
    with explained("the base model's VAE", IN_USE):
        posterior = model.vae.encode(to_device(to_array(image)[None])).latent_dist
        latents = posterior.mean.astype("float32")[0] * model.vae.config.scaling_factor  # (C, H, W)
    return _Prepared(image, mask, latents)


def pipeline_from_image(model: BaseModel, pipe: Any, latents: paddle.Tensor, noise: paddle.Tensor) -> Any:
    """A pipeline that draws from images, with the parts of another pipeline of the same model.

    Args:
        pipe: a result of `model.pipeline(...)`, whose scheduler is not changed.
        latents: of the start images, float32 [B, C, H, W].
        noise: what is added to them, of the same shape.
    """
    import ppdiffusers

    # Some pipelines correct their scheduler's settings, which are not to be those of images from noise alone.
    parts = pipe.components | {"scheduler": copy.deepcopy(pipe.scheduler)}
    own = getattr(ppdiffusers, model.family.image_to_image)(**parts, **_settings(pipe))
    own.set_progress_bar_config(disable=True)
    # The pipeline's own method takes four channels for latents and all else for pixels, and draws noise by itself.
    own.prepare_latents = lambda image, timestep, *_, **__: own.scheduler.add_noise(latents, noise, timestep)
    return own


def call_arguments(starts: Sequence[StartImage]) -> dict[str, Any]:
    """What that pipeline is called with for a batch, beside prompts and steps."""
    return {"image": paddle.zeros([len(starts), 3, 8, 8]), "strength": starts[0].strength}  # pixels that are not used


def keeping_outside(
    masks: paddle.Tensor | None, latents: paddle.Tensor, noise: paddle.Tensor, report: Callable | None
) -> Callable | None:
    """A pipeline's callback that brings back, after each step, the latents outside the masks, noisy as they are then.

    Args:
        masks: as `Starts.masks`.
        latents, noise: as for `pipeline_from_image`.
        report: another callback, which is called too.
    """
    if masks is None:
        return report

    def after_step(pipe: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        following = pipe.scheduler.timesteps[-pipe.num_timesteps :][index + 1 :]
        kept = pipe.scheduler.add_noise(latents, noise, following[:1]) if len(following) else latents
        if report is not None:
            report(pipe, index, timestep, tensors)
        return {"latents": (1 - masks) * kept + masks * tensors["latents"]}

    return after_step


def _settings(pipe: Any) -> dict[str, Any]:
    """The settings of a pipeline that are no parts of it."""
    if "force_zeros_for_empty_prompt" in pipe.config:
        return {"force_zeros_for_empty_prompt": pipe.config.force_zeros_for_empty_prompt, "add_watermarker": False}
    return {"requires_safety_checker": pipe.config.requires_safety_checker}
