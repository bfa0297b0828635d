"""Which training image each sample shows.

Concepts get equal shares of the samples, whatever their number of images. Within one bucket the concepts take turns,
sample by sample, and each goes through its images in cycles, in which an image may stand several times. With several
buckets a whole global batch comes from one
bucket, which the seed and the step choose such that the shares stay equal in expectation.
"""

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from textual_inversion.data.random_streams import Purpose, generator, permutation

# Multiples of this fraction, modulo 1, fill [0, 1) more evenly than independent draws do.
_GOLDEN_SECTION = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class ImageOrder:
    """The order of images in a run. Images are named by their index.

    Attributes:
        seed: 64-bit non-negative integer.
        concepts: the concept of each image, counted from 0; every concept has at least one image.
        buckets: the bucket of each image, counted from 0.
        num_buckets: number of buckets; some may be without images.
        global_batch: samples per optimizer step, over all processes and accumulation steps.
        repeats: of each image, positive; among the images of a concept their ratio counts. None: all are equal.
    """

    seed: int
    concepts: tuple[int, ...]
    buckets: tuple[int, ...]
    num_buckets: int
    global_batch: int
    repeats: tuple[int, ...] | None = None

    @property
    def num_concepts(self) -> int:
        """The number of concepts (C)."""
        return len(self._by_concept)

    def image_of(self, step: int, index: int) -> int:
        """The image of sample `index` in the global batch of a step."""
        if self.num_buckets > 1:
            return self._image_in_bucket(step, index)
        turn, concept = divmod(step * self.global_batch + index, self.num_concepts)
        images = self._cycles[concept]
        cycle, position = divmod(turn, len(images))
        # Every cycle through a concept's images has an order of its own.
        order = permutation(self.seed, Purpose.IMAGE_ORDER, len(images), step=cycle, index=concept)
        return images[order[position]]

    def image_in_turn(self, number: int) -> int:
        """The image of sample `number` where concepts, and the images of each, simply take turns."""
        turn, concept = divmod(number, self.num_concepts)
        images = self._by_concept[concept]
        return images[turn % len(images)]

    def bucket_of(self, step: int) -> int:
        """The bucket of all samples of a step. Over the steps, each bucket gets its share as evenly as possible."""
        if self.num_buckets == 1:
            return 0
        return self._bucket_shares.part_at((self._first_start + step * _GOLDEN_SECTION) % 1.0)

    def concepts_in(self, step: int) -> set[int]:
        """The concepts that the global batch of a step shows."""
        if self.num_buckets > 1:
            return {self.concepts[self.image_of(step, index)] for index in range(self.global_batch)}
        first = step * self.global_batch
        return {(first + turn) % self.num_concepts for turn in range(min(self.global_batch, self.num_concepts))}

    def _image_in_bucket(self, step: int, index: int) -> int:
        """Systematic sampling: evenly spaced points on the images' shares, all shifted by one random start."""
        bucket = self.bucket_of(step)
        part = self._shares_by_bucket[bucket].part_at((index + _start(self.seed, step)) / self.global_batch)
        return self._by_bucket[bucket][part]

    @cached_property
    def _first_start(self) -> float:
        return float(generator(self.seed, Purpose.BUCKET).random())

    @cached_property
    def _by_concept(self) -> list[list[int]]:
        return _grouped(self.concepts, 1 + max(self.concepts))

    @cached_property
    def _cycles(self) -> list[list[int]]:
        """For each concept its images, each as often as it stands in a cycle: as seldom as the repeats allow."""
        if self.repeats is None:
            return self._by_concept
        cycles = []
        for images in self._by_concept:
            common = math.gcd(*(self.repeats[image] for image in images))
            cycles.append([image for image in images for _ in range(self.repeats[image] // common)])
        return cycles

    @cached_property
    def _by_bucket(self) -> list[list[int]]:
        return _grouped(self.buckets, self.num_buckets)

    @cached_property
    def _image_shares(self) -> np.ndarray:
        """Share of each image in all samples, float64 [images]: equal among concepts; within one, by the repeats."""
        times = np.bincount([image for cycle in self._cycles for image in cycle], minlength=len(self.concepts))
        lengths = np.array([len(self._cycles[concept]) for concept in self.concepts])
        return times / (self.num_concepts * lengths)

    @cached_property
    def _bucket_shares(self) -> "_Shares":
        """Share of each bucket in all samples."""
        return _Shares(np.bincount(self.buckets, weights=self._image_shares, minlength=self.num_buckets))

    @cached_property
    def _shares_by_bucket(self) -> dict[int, "_Shares"]:
        """Bucket -> shares of its images among themselves; nothing for a bucket without images."""
        return {bucket: _Shares(self._image_shares[own]) for bucket, own in enumerate(self._by_bucket) if own}


class _Shares:
    """Consecutive parts of a whole.

    Args:
        shares: float64 [parts], in any unit; not all are 0.
    """

    def __init__(self, shares: np.ndarray):
        self._ends = np.cumsum(shares)
        self._last = int(np.flatnonzero(shares)[-1])  # of those that have a share; the others are never taken

    def part_at(self, position: float) -> int:
        """Index of the part that holds a position in [0, 1)."""
        # The last end may round to less than the whole.
        return min(int(np.searchsorted(self._ends, position * self._ends[-1], side="right")), self._last)


@lru_cache(maxsize=32)  # all samples of a step ask for the same one
def _start(seed: int, step: int) -> float:
    """Where the samples of a step begin among the images of its bucket, in [0, 1)."""
    return float(generator(seed, Purpose.BUCKET, step=step, index=1).random())


def _grouped(groups: tuple[int, ...], count: int) -> list[list[int]]:
    """The images of each group, from the group of each image."""
    found: list[list[int]] = [[] for _ in range(count)]
    for image, group in enumerate(groups):
        found[group].append(image)
    return found
