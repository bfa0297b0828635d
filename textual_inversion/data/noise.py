"""The noise of training samples, and which samples of a global batch form pairs with opposite noise."""

from dataclasses import dataclass

import numpy as np


def standard_normal(g: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal noise: float32 of the given shape."""
    return g.standard_normal(shape, dtype=np.float32)


def sample_noise(g: np.random.Generator, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The noise of one sample, whose latents are of shape (C, H, W).

    Returns:
        Posterior noise float32 [C, H, W], the noise to predict float32 [C, H, W], offset noise float32 [C, 1, 1]; all
        standard normal. See `sampler.Batch`.
    """
    return standard_normal(g, shape), standard_normal(g, shape), standard_normal(g, (shape[0], 1, 1))


@dataclass(frozen=True)
class MultiresolutionNoise:
    """Noise with coarser and coarser noises added to it, then brought back to a standard deviation of 1.

    Each coarser noise is drawn on a smaller grid and enlarged, so it shifts whole areas. The i-th one, counted from 0,
    has the sides of the latents divided by r^i, with an r between 2 and 4 of its own, and the weight discount^i; the
    first whose side is 1 is the last. (J. Whitaker, "Multi-resolution noise for diffusion model training", 2023.)

    Attributes:
        iterations: how many are added at most.
        discount: 0 to 1.
    """

    iterations: int
    discount: float

    def added_to(self, noise: np.ndarray, g: np.random.Generator) -> np.ndarray:
        """The noise of one sample, float32 [C, H, W], with the coarser ones that a generator gives."""
        channels, height, width = noise.shape
        total = noise.astype(np.float64)
        for number in range(self.iterations):
            divisor = (2 + 2 * g.random()) ** number
            rows, columns = max(1, int(height / divisor)), max(1, int(width / divisor))
            coarse = standard_normal(g, (channels, rows, columns))
            total += self.discount**number * _enlarged(coarse, height, width)
            if 1 in (rows, columns):
                break
        return (total / total.std(ddof=1)).astype(np.float32)


def _enlarged(coarse: np.ndarray, height: int, width: int) -> np.ndarray:
    """[C, h, w] as [C, height, width], bilinear."""
    return _interpolation(coarse.shape[1], height) @ coarse @ _interpolation(coarse.shape[2], width).T


def _interpolation(size: int, wanted: int) -> np.ndarray:
    """The matrix [wanted, size] of linear interpolation between centres of cells, constant beyond the outer ones."""
    centres = np.clip((np.arange(wanted) + 0.5) * size / wanted - 0.5, 0, size - 1)
    return np.clip(1 - abs(centres[:, None] - np.arange(size)), 0, None)


@dataclass(frozen=True)
class AntitheticPairs:
    """Samples of a global batch in pairs that show the same concept: sample i and i + C, where C concepts take turns.

    The two have opposite noise and the same timestep. Terms that are odd in the noise then cancel in their mean
    gradient. At two different timesteps the noise would have unequal weights and cancel only in part.

    Attributes:
        num_concepts: C.
    """

    num_concepts: int

    def number_of(self, index: int) -> int:
        """The number of a sample's pair, counted from 0."""
        block, position = divmod(index, 2 * self.num_concepts)
        return block * self.num_concepts + position % self.num_concepts

    def first_of(self, index: int) -> int | None:
        """The first sample of the pair whose second one is `index`; None: it is a first one itself."""
        is_second = index % (2 * self.num_concepts) >= self.num_concepts
        return index - self.num_concepts if is_second else None

    def count(self, global_batch: int) -> int:
        """The number of pairs in a global batch; a sample whose partner is missing counts as one."""
        blocks, rest = divmod(global_batch, 2 * self.num_concepts)
        return blocks * self.num_concepts + min(rest, self.num_concepts)
