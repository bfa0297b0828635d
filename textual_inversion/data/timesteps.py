"""Which timesteps of the noise schedule training samples get."""

from dataclasses import dataclass

import numpy as np

from textual_inversion.data.random_streams import Purpose, generator, permutation


@dataclass(frozen=True)
class TimestepRange:
    """The half-open range [low, high) that timesteps are drawn from."""

    low: int
    high: int

    def uniform(self, g: np.random.Generator) -> int:
        """A timestep drawn by itself: all are equally likely."""
        return int(g.integers(self.low, self.high))

    def stratified(self, seed: int, step: int, number: int, count: int) -> int:
        """A timestep from one of `count` equal parts (strata) of the range.

        The parts are dealt out in a random order, so draws 0 to count - 1 of a step meet each part once. Each draw on
        its own is still uniform over the whole range.

        Args:
            step: optimizer step, counted from 0.
            number: of the draw within the step, in [0, count).
        """
        stratum = permutation(seed, Purpose.TIMESTEP_STRATUM, count, step=step)[number]
        # Index 0 belongs to the order of the strata.
        within = generator(seed, Purpose.TIMESTEP_STRATUM, step=step, index=number + 1).random()
        position = (stratum + within) / count
        return min(self.low + int(position * (self.high - self.low)), self.high - 1)

    def spread(self, size: int) -> np.ndarray:
        """The midpoints of `size` equal parts of the range, the same at every call: int64 [size].

        Neighbours in the result are far apart in the range: images that take turns would otherwise always meet the
        same part of the schedule.
        """
        midpoints = (self.low + (np.arange(size) + 0.5) * (self.high - self.low) / size).astype(np.int64)
        return midpoints[(np.arange(size) * _coprime_stride(size)) % size]


def _coprime_stride(size: int) -> int:
    """A stride near the golden section of `size` that visits every residue once."""
    stride = max(1, round(size * 0.618))
    while np.gcd(stride, size) != 1:
        stride += 1
    return stride
