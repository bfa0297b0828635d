"""The VAE's view of the training images, computed once.

The VAE is frozen, so the posterior of an image never changes during a run: its mean and deviation are kept and each
step draws from them (arXiv 2112.10752, section 3.1). At 256 pixels encoding an image anew costs over 40 % of a step.
"""

from collections.abc import Callable, Iterable

import numpy as np
import paddle


class LatentCache:
    """Posterior means and deviations of n images, and of their mirror images where flips are on.

    Args:
        mean: float32 [n * k, C, H, W], k = 2 with mirror images (image i's stands at n + i), else 1.
        std: as `mean`.
        num_images: n.
        scaling_factor: the VAE's, which gives latents about unit variance.
    """

    def __init__(self, mean, std, num_images: int, scaling_factor: float):
        self._mean, self._std = mean, std
        self.num_images = num_images
        self._scaling_factor = scaling_factor
        self._has_mirrored = mean.shape[0] == 2 * num_images

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one latent."""
        return tuple(self._mean.shape[1:])

    def sample(self, images: np.ndarray, flips: np.ndarray, posterior_noise: np.ndarray):
        """Draw latents.

        Args:
            images: int64 [B] in [0, n); flips: bool [B]; posterior_noise: float32 [B, C, H, W], standard normal.

        Returns:
            float32 [B, C, H, W], scaled.

        Raises:
            ValueError: a flip is asked for, but mirror images were not encoded.
        """
        if flips.any() and not self._has_mirrored:
            raise ValueError("mirror images were not encoded")
        index = paddle.to_tensor(images + self.num_images * flips)
        mean, std = paddle.gather(self._mean, index), paddle.gather(self._std, index)
        return (mean + std * paddle.to_tensor(posterior_noise)) * self._scaling_factor


@paddle.no_grad()
def encode_posteriors(
    vae, pixels: Iterable[np.ndarray], *, mirrored: bool, on_image: Callable[[], None] | None = None
) -> LatentCache:
    """Encode images with a frozen VAE.

    Args:
        vae: an AutoencoderKL.
        pixels: float32 arrays [3, height, width] in [-1, 1], read one at a time.
        mirrored: encode the mirror images too; a VAE's view of a mirrored image is not its mirrored view.
        on_image: called after each image.
    """
    plain, flipped = [], []
    for array in pixels:
        plain.append(_posterior(vae, array))
        if mirrored:
            flipped.append(_posterior(vae, np.ascontiguousarray(array[:, :, ::-1])))
        if on_image:
            on_image()
    posteriors = plain + flipped
    mean, std = (paddle.concat([p[i] for p in posteriors]) for i in range(2))
    return LatentCache(mean, std, len(plain), vae.config.scaling_factor)


def _posterior(vae, array: np.ndarray):
    dtype = next(iter(vae.parameters())).dtype
    distribution = vae.encode(paddle.to_tensor(array[None]).astype(dtype)).latent_dist
    return distribution.mean.astype("float32"), distribution.std.astype("float32")
