"""The VAE's view of the training images, computed once.

The VAE is frozen, so the posterior of an image never changes during a run: its mean and std are kept and each
step draws from them (arXiv 2112.10752, section 3.1). At 256 pixels encoding an image anew costs over 40 % of a step.
A random crop is another image every time, so only `LiveLatents` has it, at that cost.
"""

from collections.abc import Iterable

import numpy as np
import paddle

from textual_inversion.data.resizing import Shape, cut
from textual_inversion.system.device import to_device


class LatentCache:
    """Posterior means and stds of n images, and of their mirror images where flips are on.

    Args:
        posteriors: (mean, std) of each image, float32 [1, C, H, W]; then, maybe, of each mirror image. Images
            of one bucket have one shape.
        num_images: n.
        scaling_factor: the VAE's, which gives latents about unit variance.
    """

    def __init__(self, posteriors: list[tuple], num_images: int, scaling_factor: float):
        self.num_images = num_images
        self._scaling_factor = scaling_factor
        self._has_mirrored = len(posteriors) == 2 * num_images
        self._shapes = [tuple(mean.shape[1:]) for mean, _ in posteriors]
        self._stacked = {}  # shape -> (means, stds), each [n of this shape, C, H, W]
        self._index = np.zeros(len(posteriors), dtype=np.int64)  # index of an image among those of its shape
        for shape in set(self._shapes):
            alike = [i for i, other in enumerate(self._shapes) if other == shape]
            self._index[alike] = np.arange(len(alike))
            self._stacked[shape] = tuple(paddle.concat([posteriors[i][part] for i in alike]) for part in range(2))

    def shape_of(self, image: int) -> tuple[int, int, int]:
        """(C, H, W) of an image's latents."""
        return self._shapes[image]

    def sample(self, batch):
        """Draw the latents of a `sampler.Batch`.

        Returns:
            float32 [B, C, H, W], scaled.

        Raises:
            ValueError: a flip is asked for, but mirror images were not encoded.
        """
        if batch.flips.any() and not self._has_mirrored:
            raise ValueError("mirror images were not encoded")
        means, stds = self._stacked[self._shapes[batch.images[0]]]
        index = to_device(self._index[batch.images + self.num_images * batch.flips])
        mean, std = paddle.gather(means, index), paddle.gather(stds, index)
        return (mean + std * to_device(batch.posterior_noise)) * self._scaling_factor


class LiveLatents:
    """Latents of random crops, encoded when they are asked for: the same calls as a `LatentCache`, nothing kept.

    Args:
        model: a `models.BaseModel`, whose VAE is used.
        material: what crops are cut from, float32 [3, H, W] in [-1, 1], each at least as large as the shape.
        shape: (height, width) of a crop in pixels.
    """

    def __init__(self, model, material: list[np.ndarray], shape: Shape):
        self._model, self._material, self._shape = model, material, shape

    def shape_of(self, image: int) -> tuple[int, int, int]:
        """(C, H, W) of an image's latents."""
        config, factor = self._model.vae.config, self._model.vae_scale_factor
        return (config.latent_channels, self._shape[0] // factor, self._shape[1] // factor)

    @paddle.no_grad()
    def sample(self, batch):
        """Cut, encode and draw the latents of a `sampler.Batch`: float32 [B, C, H, W], scaled."""
        crops = [
            cut(self._material[image], crop, self._shape, flipped=bool(flip))
            for image, crop, flip in zip(batch.images, batch.crops, batch.flips, strict=True)
        ]
        vae = self._model.vae
        mean, std = _posterior(vae, np.stack(crops))
        return (mean + std * to_device(batch.posterior_noise)) * vae.config.scaling_factor


@paddle.no_grad()
def encode_posteriors(vae, pixels: Iterable[np.ndarray], *, mirrored: bool) -> LatentCache:
    """Encode images with a frozen VAE.

    Args:
        vae: an AutoencoderKL.
        pixels: float32 arrays [3, height, width] in [-1, 1], read one at a time.
        mirrored: encode the mirror images too; a VAE's view of a mirrored image is not its mirrored view.
    """
    plain, flipped = [], []
    for array in pixels:
        plain.append(_posterior(vae, array[None]))
        if mirrored:
            flipped.append(_posterior(vae, array[None, :, :, ::-1]))
    return LatentCache(plain + flipped, len(plain), vae.config.scaling_factor)


def _posterior(vae, pixels: np.ndarray):
    """(mean, std), float32 [B, C, H, W], of pixels [B, 3, height, width]."""
    dtype = next(iter(vae.parameters())).dtype
    distribution = vae.encode(to_device(np.ascontiguousarray(pixels)).astype(dtype)).latent_dist
    return distribution.mean.astype("float32"), distribution.std.astype("float32")
