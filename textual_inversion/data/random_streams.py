"""Where the random numbers of a run come from: counter-based generators, one for each purpose.

NumPy's Philox generator (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) computes its numbers
from a key and a counter. The key is the seed; the counter holds the purpose, the index and the step. No generator is
shared or carried from one sample to the next. So a resumed run needs no generator state, ranks never share noise, and
the way a global batch is split into processes and micro-batches changes nothing.
"""

from enum import IntEnum
from functools import lru_cache

import numpy as np


class Purpose(IntEnum):
    """What numbers are drawn for. Each purpose has its own stream, so adding one never changes another's numbers."""

    SAMPLE = 0  # in this order: flip, prompt, timestep, posterior noise, noise, offset noise
    IMAGE_ORDER = 1
    EVALUATION = 2  # as SAMPLE, for the fixed set
    INITIAL_VECTORS = 3
    CROP = 4
    PERTURBATION = 5
    VECTOR_CHOICE = 6
    BUCKET = 7
    TIMESTEP_STRATUM = 8
    GRID_SAMPLE = 9  # in this order: one number for each axis, then the alternatives of prompt and negative prompt
    CAPTION = 10  # in this order: template share, caption dropout, template, alternatives, order of tags, tag dropout
    VARIANT = 11  # which variant of its image a sample shows
    AUGMENTATION = 12  # in this order: brightness, contrast, saturation, hue, angle, crop (down, right)
    MULTIRESOLUTION = 13  # for each coarser noise: how much coarser, then the noise


def generator(seed: int, purpose: Purpose, *, step: int = 0, index: int = 0) -> np.random.Generator:
    """The generator for one purpose, step and index.

    Args:
        seed: 64-bit non-negative integer.
        step: optimizer step, counted from 0, or whatever else counts up.
        index: of the sample in the global batch, or of whatever else has its own numbers within a step.
    """
    key = np.array([seed, 0], dtype=np.uint64)
    counter = np.array([0, purpose, index, step], dtype=np.uint64)  # Philox counts the draws in the first word
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


@lru_cache(maxsize=32)  # all samples of a step ask for the same one
def permutation(seed: int, purpose: Purpose, size: int, *, step: int = 0, index: int = 0) -> np.ndarray:
    """A random order of the numbers below `size`: int64 [size], read-only. See `generator` for the other arguments."""
    order = generator(seed, purpose, step=step, index=index).permutation(size)
    order.flags.writeable = False
    return order


def initial_vectors_generator(seed: int) -> np.random.Generator:
    """The generator for whatever is random in the vectors' initial values."""
    return generator(seed, Purpose.INITIAL_VECTORS)


def draw_seed() -> int:
    """A random 32-bit seed, for a run whose user gave none."""
    return int(np.random.SeedSequence().generate_state(1)[0])
