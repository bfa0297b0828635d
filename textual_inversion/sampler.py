"""Which image, flip, prompt, timestep and noise a training sample gets.

A sample is a pure function of (seed, optimizer step, index in the global batch, size of the global batch): its numbers
come from NumPy's Philox generator (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), whose
counter is set from those integers. No generator is shared or carried on. So a resumed run needs no generator state,
ranks cannot share noise, and how a global batch is cut into processes and micro-batches changes nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

# The counter's second word: one stream of numbers per purpose, so that adding a purpose never moves another's numbers.
_SAMPLE, _ORDER, _EVALUATION, _INITIAL_ROWS = range(4)


def generator(seed: int, purpose: int, *, step: int = 0, index: int = 0) -> np.random.Generator:
    """A generator for one purpose at one place: the lowest counter word is left to count the draws."""
    key, counter = (np.array(words, dtype=np.uint64) for words in ([seed, 0], [0, purpose, index, step]))
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def draw_seed() -> int:
    """A seed for a run whose user gave none."""
    return int(np.random.SeedSequence().generate_state(1)[0])


def initial_rows_generator(seed: int) -> np.random.Generator:
    """The generator for anything random in the rows' initial values."""
    return generator(seed, _INITIAL_ROWS)


@dataclass(frozen=True)
class Batch:
    """One micro-batch of B samples.

    Attributes:
        images: int64 [B], indices into the training images.
        flips: bool [B], take the mirrored image.
        prompts: B sentences with placeholders.
        posterior_noise: float32 [B, C, H, W], standard normal, for sampling the VAE's posterior.
        noise: float32 [B, C, H, W], standard normal, the noise to predict.
        offset_noise: float32 [B, C, 1, 1], standard normal, one value a channel.
        timesteps: int64 [B] in [0, num_train_timesteps).
    """

    images: np.ndarray
    flips: np.ndarray
    prompts: list[str]
    posterior_noise: np.ndarray
    noise: np.ndarray
    offset_noise: np.ndarray
    timesteps: np.ndarray


@dataclass(frozen=True)
class SampleStream:
    """All samples of a run.

    Attributes:
        seed: 64-bit non-negative integer.
        num_images: number of training images.
        templates: sentences with one `{}` each.
        placeholder: what stands in the `{}`.
        latent_shape: (C, H, W).
        global_batch: samples per optimizer step, over all processes and accumulation steps.
        num_train_timesteps: length of the noise schedule.
        flip_p: probability of a mirrored image, 0 to 1.
    """

    seed: int
    num_images: int
    templates: tuple[str, ...]
    placeholder: str
    latent_shape: tuple[int, int, int]
    global_batch: int
    num_train_timesteps: int = 1000
    flip_p: float = 0.5

    def image_of(self, step: int, index: int) -> int:
        """The image of sample `index` of step `step`: every cycle through the images has an order of its own."""
        cycle, position = divmod(step * self.global_batch + index, self.num_images)
        return int(generator(self.seed, _ORDER, step=cycle).permutation(self.num_images)[position])

    def batch(self, step: int, indices: range | list[int]) -> Batch:
        """The samples `indices` (each in [0, global_batch)) of optimizer step `step`, counted from 0."""
        images = [self.image_of(step, index) for index in indices]
        generators = [generator(self.seed, _SAMPLE, step=step, index=index) for index in indices]
        return self._draw(images, generators)

    def micro_batches(self, step: int, rank: int = 0, world_size: int = 1, accumulation: int = 1) -> Iterator[Batch]:
        """This rank's share of the global batch of a step, cut into `accumulation` parts of equal size."""
        size = self.global_batch // (world_size * accumulation)
        for part in range(accumulation):
            first = (rank * accumulation + part) * size
            yield self.batch(step, range(first, first + size))

    def evaluation_batch(self, size: int) -> Batch:
        """A fixed set of samples: images in turn, unflipped, one plain prompt, timesteps spread over the schedule.

        The training loss is dominated by which timestep was drawn; the same samples at every evaluation show whether
        the rows learn. Timesteps are the midpoints of `size` equal parts of the schedule.
        """
        generators = [generator(self.seed, _EVALUATION, index=index) for index in range(size)]
        drawn = self._draw([index % self.num_images for index in range(size)], generators)
        spread = ((np.arange(size) + 0.5) * self.num_train_timesteps / size).astype(np.int64)
        plain = self.templates[0].replace("{}", self.placeholder)
        # A stride coprime to the size keeps an image from meeting always the same part of the schedule.
        order = (np.arange(size) * _coprime_stride(size)) % size
        return Batch(
            drawn.images,
            np.zeros(size, dtype=bool),
            [plain] * size,
            drawn.posterior_noise,
            drawn.noise,
            np.zeros_like(drawn.offset_noise),
            spread[order],
        )

    def _draw(self, images: list[int], generators: list[np.random.Generator]) -> Batch:
        flips, prompts, timesteps, posterior, noise, offset = [], [], [], [], [], []
        for g in generators:
            flips.append(g.random() < self.flip_p)
            prompts.append(self.templates[g.integers(len(self.templates))].replace("{}", self.placeholder))
            timesteps.append(g.integers(self.num_train_timesteps))
            posterior.append(g.standard_normal(self.latent_shape, dtype=np.float32))
            noise.append(g.standard_normal(self.latent_shape, dtype=np.float32))
            offset.append(g.standard_normal((self.latent_shape[0], 1, 1), dtype=np.float32))
        return Batch(
            np.array(images, dtype=np.int64),
            np.array(flips, dtype=bool),
            prompts,
            np.stack(posterior),
            np.stack(noise),
            np.stack(offset),
            np.array(timesteps, dtype=np.int64),
        )


def _coprime_stride(size: int) -> int:
    """A step near the golden section of `size` that visits every residue once."""
    stride = max(1, round(size * 0.618))
    while np.gcd(stride, size) != 1:
        stride += 1
    return stride
