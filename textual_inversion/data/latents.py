"""The latents of the training images, drawn from posteriors that are computed once.

The VAE is frozen, so the posterior of an image never changes during a run. Its mean and std are cached, and each step
draws from them (arXiv 2112.10752, section 3.1). At 256 pixels, encoding an image again would cost over 40 % of a step.
An image whose colours, angle or crop change is cached in K variants; see `augmentation`. A random crop without them is
a different image every time, so its latents cannot be cached: `LiveLatents` encodes at every step.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
import paddle
from paddle import nn

from textual_inversion.data.images import to_unit
from textual_inversion.data.latent_files import LatentFiles
from textual_inversion.data.resizing import Shape, cut
from textual_inversion.data.sampler import Batch
from textual_inversion.models.base_model import BaseModel
from textual_inversion.models.config_checks import IN_USE, explained
from textual_inversion.system.device import to_device

T = TypeVar("T", int, np.ndarray)


class LatentCache:
    """Posteriors of n images in K variants, and of their mirror images where images are flipped, in the host's memory.

    They are numbered: first variant 0 of every image, then variant 1 of every image and so on, then the mirror images.

    Args:
        shapes: of each image in pixels (height, width); images of one shape have latents of one shape.
        mirrored: whether the mirror images have posteriors too.
        scaling_factor: of the VAE; it gives the latents about unit variance.
        variants: of each image (K).
    """

    def __init__(self, shapes: Sequence[Shape], *, mirrored: bool, scaling_factor: float, variants: int = 1):
        self.num_images, self._variants = len(shapes), variants
        self._scaling_factor, self._has_mirrored = scaling_factor, mirrored
        self._shapes = list(shapes) * (variants * (1 + mirrored))
        self._stacked: dict[Shape, tuple[np.ndarray, np.ndarray]] = {}  # (means, stds), each [n of this shape, C, H, W]
        counts = Counter()
        self._index = np.zeros(len(self._shapes), dtype=np.int64)  # position of an image among those of its shape
        for position, shape in enumerate(self._shapes):
            self._index[position] = counts[shape]
            counts[shape] += 1
        self._counts = counts

    def put(self, position: int, mean: np.ndarray, std: np.ndarray) -> None:
        """Keep a posterior, float32 [C, H, W]; see `position`."""
        shape = self._shapes[position]
        if shape not in self._stacked:  # one allocation: stacking them later would need twice the memory
            self._stacked[shape] = tuple(np.empty((self._counts[shape], *mean.shape), np.float32) for _ in range(2))
        for kept, new in zip(self._stacked[shape], (mean, std), strict=True):
            kept[self._index[position]] = new

    def position(self, image: T, variant: T, flipped: T) -> T:
        """The number of a posterior; of arrays, those of all."""
        return image + self.num_images * (variant + self._variants * flipped)

    @property
    def memory(self) -> int:
        """Bytes of all posteriors."""
        return sum(array.nbytes for arrays in self._stacked.values() for array in arrays)

    def shape_of(self, image: int) -> tuple[int, int, int]:
        """(C, H, W) of an image's latents."""
        return self._stacked[self._shapes[image]][0].shape[1:]

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
        index = self._index[self.position(batch.images, batch.drawn_variants, batch.flips)]
        mean, std = to_device(means[index]), to_device(stds[index])
        return (mean + std * to_device(batch.posterior_noise)) * self._scaling_factor


class LiveLatents:
    """Latents of random crops, encoded at every call. It has the methods of a `LatentCache`, and caches nothing.

    Args:
        model: the base model, whose VAE is used.
        sources: what crops are cut from, uint8 [3, H, W], each at least as large as the shape.
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
        mean, std = _posterior(vae, to_unit(np.stack(crops)))
        return (mean + std * to_device(batch.posterior_noise)) * vae.config.scaling_factor


def encode_posteriors(
    vae: nn.Layer,
    pixels: Iterable[np.ndarray],
    shapes: Sequence[Shape],
    *,
    mirrored: bool,
    batch_size: int = 1,
    files: LatentFiles | None = None,
    variants: int = 1,
) -> LatentCache:
    """Encode images with a frozen VAE.

    Images of one shape go through the VAE in batches of one size; the last one is filled up with copies. So what an
    image's posterior is depends on that size by rounding, and not at all on the other images.

    Args:
        vae: an AutoencoderKL.
        pixels: float32 [3, height, width] in [-1, 1], read one at a time: all variants of the first image, and so on.
        shapes: (height, width) of each image.
        mirrored: encode the mirror images too. Mirroring the latents would not do: the VAE is not symmetric.
        batch_size: images that go through the VAE together; no more than there are of a shape.
        files: where posteriors are kept on disk, if they are.
        variants: of each image (K).
    """
    cache = LatentCache(shapes, mirrored=mirrored, scaling_factor=vae.config.scaling_factor, variants=variants)
    counts, copies = Counter(shapes), variants * (1 + mirrored)
    sizes = {shape: min(batch_size, count * copies) for shape, count in counts.items()}
    encoders = {shape: _BatchEncoder(vae, cache, size, files) for shape, size in sizes.items()}
    each = [(image, variant) for image in range(len(shapes)) for variant in range(variants)]
    for (image, variant), array in zip(each, pixels, strict=True):
        encoder = encoders[shapes[image]]
        encoder.add(cache.position(image, variant, 0), array)
        if mirrored:
            encoder.add(cache.position(image, variant, 1), np.ascontiguousarray(array[:, :, ::-1]))
    for encoder in encoders.values():
        encoder.finish()
    if files is not None:
        files.tell(len(shapes) * copies)
    return cache


class _BatchEncoder:
    """Encodes images of one shape in batches of one size, and puts their posteriors into a cache."""

    def __init__(self, vae: nn.Layer, cache: LatentCache, size: int, files: LatentFiles | None):
        self._vae, self._cache, self._size, self._files = vae, cache, size, files
        self._waiting: list[tuple[int, str, np.ndarray]] = []  # position, key on disk, pixels

    def add(self, position: int, pixels: np.ndarray) -> None:
        """Take an image's posterior from the disk, or let it wait until a batch is full."""
        key = ""
        if self._files is not None:
            key = self._files.key(pixels, self._size)
            found = self._files.read(key, pixels.shape[1:])
            if found is not None:
                self._cache.put(position, *found)
                return
        self._waiting.append((position, key, pixels))
        if len(self._waiting) == self._size:
            self.finish()

    @paddle.no_grad()
    def finish(self) -> None:
        """Encode those that wait."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        filled = [waiting[min(number, len(waiting) - 1)][2] for number in range(self._size)]
        means, stds = (part.numpy() for part in _posterior(self._vae, np.stack(filled)))
        for (position, key, _), mean, std in zip(waiting, means, stds, strict=False):
            self._cache.put(position, mean, std)
            if self._files is not None:
                self._files.write(key, mean, std)


def _posterior(vae: nn.Layer, pixels: np.ndarray) -> tuple[paddle.Tensor, paddle.Tensor]:
    """(mean, std), float32 [B, C, H, W], of pixels [B, 3, height, width]."""
    _, weight = next(vae.named_parameters())  # `parameters()` lists all of them
    with explained("the base model's VAE", IN_USE):
        distribution = vae.encode(to_device(np.ascontiguousarray(pixels)).astype(weight.dtype)).latent_dist
    return distribution.mean.astype("float32"), distribution.std.astype("float32")
