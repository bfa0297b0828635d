"""The latents of the training images, drawn from posteriors that are computed once.

The VAE is frozen, so the posterior of an image never changes during a run. Its mean and std are cached, and each step
draws from them (arXiv 2112.10752, section 3.1). At 256 pixels, encoding an image again would cost over 40 % of a step.
A random crop is a different image every time, so its latents cannot be cached: `LiveLatents` encodes at every step.
"""

from collections.abc import Iterable

import numpy as np
import paddle
from paddle import nn

from textual_inversion.data.resizing import Shape, cut
from textual_inversion.data.sampler import Batch
from textual_inversion.models.base_model import BaseModel
from textual_inversion.models.config_checks import IN_USE, explained
from textual_inversion.system.device import to_device


class LatentCache:
    """Cached posteriors of n images, and of their mirror images where images are flipped.

    Args:
        posteriors: (mean, std) of each image, float32 [1, C, H, W]; then those of the mirror images, if any. Images
            in one bucket have the same shape.
        num_images: n.
        scaling_factor: of the VAE; it gives the latents about unit variance.
    """

    def __init__(self, posteriors: list[tuple[paddle.Tensor, paddle.Tensor]], num_images: int, scaling_factor: float):
        self.num_images = num_images
        self._scaling_factor = scaling_factor
        self._has_mirrored = len(posteriors) == 2 * num_images
        self._shapes = [tuple(mean.shape[1:]) for mean, _ in posteriors]
        self._stacked = {}  # shape -> (means, stds), each [n of this shape, C, H, W]
        self._index = np.zeros(len(posteriors), dtype=np.int64)  # position of an image among those of its shape
        for shape in set(self._shapes):
            alike = [i for i, other in enumerate(self._shapes) if other == shape]
            self._index[alike] = np.arange(len(alike))
            self._stacked[shape] = tuple(paddle.concat([posteriors[i][part] for i in alike]) for part in range(2))

    def shape_of(self, image: int) -> tuple[int, int, int]:
        """(C, H, W) of an image's latents."""
        return self._shapes[image]

    def sample(self, batch: Batch) -> paddle.Tensor:
        """Draw the latents of a batch.

        Returns:
            float32 [B, C, H, W], scaled.

        Raises:
            ValueError: an image is flipped, but mirror images were not encoded.
        """
        if batch.flips.any() and not self._has_mirrored:
            raise ValueError("mirror images were not encoded")
        means, stds = self._stacked[self._shapes[batch.images[0]]]
        index = to_device(self._index[batch.images + self.num_images * batch.flips])
        mean, std = paddle.gather(means, index), paddle.gather(stds, index)
        return (mean + std * to_device(batch.posterior_noise)) * self._scaling_factor


class LiveLatents:
    """Latents of random crops, encoded at every call. It has the methods of a `LatentCache`, and caches nothing.

    Args:
        model: the base model, whose VAE is used.
        sources: what crops are cut from, float32 [3, H, W] in [-1, 1], each at least as large as the shape.
        shape: (height, width) of a crop in pixels.
    """

    def __init__(self, model: BaseModel, sources: list[np.ndarray], shape: Shape):
        self._model, self._sources, self._shape = model, sources, shape

    def shape_of(self, image: int) -> tuple[int, int, int]:
        """(C, H, W) of an image's latents."""
        config, factor = self._model.vae.config, self._model.vae_scale_factor
        return (config.latent_channels, self._shape[0] // factor, self._shape[1] // factor)

    @paddle.no_grad()
    def sample(self, batch: Batch) -> paddle.Tensor:
        """Cut the crops of a batch, encode them and draw their latents: float32 [B, C, H, W], scaled."""
        crops = [
            cut(self._sources[image], crop, self._shape, flipped=bool(flip))
            for image, crop, flip in zip(batch.images, batch.crops, batch.flips, strict=True)
        ]
        vae = self._model.vae
        mean, std = _posterior(vae, np.stack(crops))
        return (mean + std * to_device(batch.posterior_noise)) * vae.config.scaling_factor


@paddle.no_grad()
def encode_posteriors(vae: nn.Layer, pixels: Iterable[np.ndarray], *, mirrored: bool) -> LatentCache:
    """Encode images with a frozen VAE.

    Args:
        vae: an AutoencoderKL.
        pixels: float32 [3, height, width] in [-1, 1], read one at a time.
        mirrored: encode the mirror images too. Mirroring the latents would not do: the VAE is not symmetric.
    """
    plain, flipped = [], []
    for array in pixels:
        plain.append(_posterior(vae, array[None]))
        if mirrored:
            flipped.append(_posterior(vae, array[None, :, :, ::-1]))
    return LatentCache(plain + flipped, len(plain), vae.config.scaling_factor)


def _posterior(vae: nn.Layer, pixels: np.ndarray) -> tuple[paddle.Tensor, paddle.Tensor]:
    """(mean, std), float32 [B, C, H, W], of pixels [B, 3, height, width]."""
    dtype = next(iter(vae.parameters())).dtype
    with explained("the base model's VAE", IN_USE):
        distribution = vae.encode(to_device(np.ascontiguousarray(pixels)).astype(dtype)).latent_dist
    return distribution.mean.astype("float32"), distribution.std.astype("float32")
