"""Which image, flip, crop, prompt, timestep and noise a training sample gets.

A sample is a pure function of (seed, optimizer step, index in the global batch, size of the global batch): its numbers
come from NumPy's Philox generator (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), whose
counter is set from those integers. No generator is shared or carried on. So a resumed run needs no generator state,
ranks cannot share noise, and how a global batch is cut into processes and micro-batches changes nothing.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from textual_inversion.models.prompt_encoder import Reading

# The counter's second word: one stream of numbers per purpose, so that adding a purpose never moves another's numbers.
_SAMPLE, _ORDER, _EVALUATION, _INITIAL_VECTORS, _CROP, _PERTURBATION, _VECTORS, _BUCKET, _STRATUM = range(9)

# An additive recurrence with the golden section's share fills [0, 1) more evenly than independent draws do.
_GOLDEN = (5**0.5 - 1) / 2

VectorChoice = Mapping[str, tuple[int, ...]]


def generator(seed: int, purpose: int, *, step: int = 0, index: int = 0) -> np.random.Generator:
    """A generator for one purpose at one place: the lowest counter word is left to count the draws."""
    key, counter = (np.array(words, dtype=np.uint64) for words in ([seed, 0], [0, purpose, index, step]))
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def draw_seed() -> int:
    """A seed for a run whose user gave none."""
    return int(np.random.SeedSequence().generate_state(1)[0])


def initial_vectors_generator(seed: int) -> np.random.Generator:
    """The generator for anything random in the vectors' initial values."""
    return generator(seed, _INITIAL_VECTORS)


@dataclass(frozen=True)
class TrainingImage:
    """What the stream must know of a training image.

    Attributes:
        concept: index of the concept that it shows, counted from 0.
        prompts: sentences with the placeholder in its place; one is drawn per sample, the first is the plain one.
        bucket: images of one bucket have one size.
    """

    concept: int
    prompts: tuple[str, ...]
    bucket: int = 0


@dataclass(frozen=True)
class Batch:
    """One micro-batch of B samples.

    Attributes:
        images: int64 [B], indices into the training images, all of one bucket.
        flips: bool [B], take the mirrored image.
        crops: float64 [B, 2] in [0, 1), where a random crop lies: shares of the free room, (down, right).
        prompts: B sentences with placeholders.
        vectors: per sample, placeholder -> which of its vectors, in which order, stand in the prompt (those that are
            not named: all, in order); None: all of all, in order.
        trained: per sample, the placeholder whose vectors get a gradient; None: all placeholders of its prompt.
        posterior_noise: float32 [B, C, H, W], standard normal, for sampling the VAE's posterior.
        noise: float32 [B, C, H, W], standard normal, the noise to predict.
        perturbation: float32 [B, C, H, W], standard normal, for perturbing the U-Net's input.
        offset_noise: float32 [B, C, 1, 1], standard normal, one value a channel.
        timesteps: int64 [B] within the stream's range of timesteps.
        bucket: the images' bucket.
    """

    images: np.ndarray
    flips: np.ndarray
    crops: np.ndarray
    prompts: list[str]
    vectors: list[VectorChoice] | None
    trained: list[str | None]
    posterior_noise: np.ndarray
    noise: np.ndarray
    perturbation: np.ndarray
    offset_noise: np.ndarray
    timesteps: np.ndarray
    bucket: int = 0

    @property
    def readings(self) -> list[Reading]:
        """How the placeholders of each prompt are read."""
        vectors = self.vectors or [{}] * len(self.prompts)
        return [Reading(chosen, trained) for chosen, trained in zip(vectors, self.trained, strict=True)]


@dataclass(frozen=True)
class SampleStream:
    """All samples of a run.

    Concepts get equal shares of the samples, whatever their number of images. In one bucket they take turns, sample by
    sample, and each goes through its images in cycles. With several buckets a whole global batch comes from one,
    chosen by (seed, step) with such probabilities that the shares stay equal in expectation.

    Attributes:
        seed: 64-bit non-negative integer.
        images: the training images; every concept has one at least.
        latent_shapes: (C, H, W) by bucket.
        global_batch: samples per optimizer step, over all processes and accumulation steps.
        placeholders: the concepts' placeholders; from a sample only the one of its image's concept learns. None: all
            placeholders of a prompt do.
        num_train_timesteps: length of the noise schedule.
        timestep_range: the half-open range timesteps are drawn from; None: the whole schedule.
        flip_p: probability of a mirrored image, 0 to 1.
        vary: given a generator and the optimizer step, which vectors of which placeholder a sample's prompt gets.
        stratified: the timesteps of a global batch lie one in each of as many equal parts of the range; every sample's
            own is uniform as ever, but no part of the schedule is missed or met twice.
        antithetic: samples 2k and 2k + 1 of a global batch have opposite noise and the same timestep (of C concepts,
            sample i and i + C, which show the same one). What is odd in the noise then cancels from their mean
            gradient. At two timesteps, mirrored ones too, the noise would count differently and cancel in part only;
            to cover the schedule is what strata are for, of which a pair then gets one.
    """

    seed: int
    images: tuple[TrainingImage, ...]
    latent_shapes: tuple[tuple[int, int, int], ...]
    global_batch: int
    placeholders: tuple[str, ...] | None = None
    num_train_timesteps: int = 1000
    timestep_range: tuple[int, int] | None = None
    flip_p: float = 0.5
    vary: Callable[[np.random.Generator, int], VectorChoice] | None = None
    stratified: bool = False
    antithetic: bool = False

    def image_of(self, step: int, index: int) -> int:
        """The image of sample `index` of step `step`."""
        if len(self.latent_shapes) > 1:
            return self._image_in_bucket(step, index)
        # Every cycle through a concept's images has an order of its own.
        turn, concept = divmod(step * self.global_batch + index, len(self._by_concept))
        images = self._by_concept[concept]
        cycle, position = divmod(turn, len(images))
        order = generator(self.seed, _ORDER, step=cycle, index=concept).permutation(len(images))
        return images[order[position]]

    def bucket_of(self, step: int) -> int:
        """The bucket of all samples of a step: over the steps, each gets its share as evenly as can be."""
        if len(self.latent_shapes) == 1:
            return 0
        start = generator(self.seed, _BUCKET).random()
        return _place((start + step * _GOLDEN) % 1.0, self._bucket_shares)

    def words_in(self, step: int) -> set[int]:
        """The concepts that the whole global batch of a step shows."""
        first, concepts = step * self.global_batch, len(self._by_concept)
        if len(self.latent_shapes) == 1:  # they take turns
            return {(first + index) % concepts for index in range(min(self.global_batch, concepts))}
        return {self.images[self.image_of(step, index)].concept for index in range(self.global_batch)}

    def batch(self, step: int, indices: range | list[int]) -> Batch:
        """The samples `indices` (each in [0, global_batch)) of optimizer step `step`, counted from 0."""
        images = [self.image_of(step, index) for index in indices]
        generators = [generator(self.seed, _SAMPLE, step=step, index=index) for index in indices]
        batch = self._draw(images, generators)
        for place, index in enumerate(indices):
            own = {"step": step, "index": index}
            if self.antithetic and self._pair(index)[1] is not None:
                self._oppose(batch, place, step, self._pair(index)[1])
            if self.stratified:
                batch.timesteps[place] = self._timestep_in_stratum(step, index)
            batch.crops[place] = generator(self.seed, _CROP, **own).random(2)
            batch.perturbation[place] = _normal(generator(self.seed, _PERTURBATION, **own), batch.noise.shape[1:])
            if self.vary:
                batch.vectors.append(self.vary(generator(self.seed, _VECTORS, **own), step))
        return batch

    def micro_batches(self, step: int, rank: int = 0, world_size: int = 1, accumulation: int = 1) -> Iterator[Batch]:
        """This rank's share of the global batch of a step, cut into `accumulation` parts of equal size."""
        size = self.global_batch // (world_size * accumulation)
        for part in range(accumulation):
            first = (rank * accumulation + part) * size
            yield self.batch(step, range(first, first + size))

    def evaluation_batches(self, size: int) -> list[Batch]:
        """A fixed set of `size` samples, one batch for each bucket they fall into.

        Concepts and their images come in turn, unflipped, cropped in the middle, each with its plain prompt, all
        vectors in order, timesteps spread over the range: the midpoints of `size` equal parts. The training loss is
        dominated by which timestep was drawn; the same samples at every evaluation show whether the rows learn.
        """
        low, high = self._timestep_range
        spread = (low + (np.arange(size) + 0.5) * (high - low) / size).astype(np.int64)
        # A stride coprime to the size keeps an image from meeting always the same part of the schedule.
        timesteps = spread[(np.arange(size) * _coprime_stride(size)) % size]
        images = [self._image_in_turn(number) for number in range(size)]
        buckets = np.array([self.images[image].bucket for image in images])
        return [
            self._evaluation_batch(np.flatnonzero(buckets == bucket), images, timesteps)
            for bucket in np.unique(buckets)
        ]

    def _evaluation_batch(self, numbers: np.ndarray, images: list[int], timesteps: np.ndarray) -> Batch:
        drawn = self._draw(
            [images[number] for number in numbers],
            [generator(self.seed, _EVALUATION, index=int(number)) for number in numbers],
        )
        drawn.flips[:], drawn.crops[:], drawn.offset_noise[:] = False, 0.5, 0.0
        drawn.timesteps[:] = timesteps[numbers]
        drawn.prompts[:] = [self.images[image].prompts[0] for image in drawn.images]
        return Batch(**vars(drawn) | {"vectors": None})

    def _draw(self, images: list[int], generators: list[np.random.Generator]) -> Batch:
        """The numbers that images and their generators decide; crops and perturbation are zero."""
        bucket = self.images[images[0]].bucket
        shape = self.latent_shapes[bucket]
        flips, prompts, timesteps, posterior, noise, offset = [], [], [], [], [], []
        for image, g in zip(images, generators, strict=True):
            sentences = self.images[image].prompts
            flips.append(g.random() < self.flip_p)
            prompts.append(sentences[g.integers(len(sentences))])
            timesteps.append(g.integers(*self._timestep_range))
            posterior.append(_normal(g, shape))
            noise.append(_normal(g, shape))
            offset.append(_normal(g, (shape[0], 1, 1)))
        return Batch(
            images=np.array(images, dtype=np.int64),
            flips=np.array(flips, dtype=bool),
            crops=np.zeros((len(images), 2)),
            prompts=prompts,
            vectors=[] if self.vary else None,
            trained=[self.placeholders[self.images[i].concept] if self.placeholders else None for i in images],
            posterior_noise=np.stack(posterior),
            noise=np.stack(noise),
            perturbation=np.zeros((len(images), *shape), dtype=np.float32),
            offset_noise=np.stack(offset),
            timesteps=np.array(timesteps, dtype=np.int64),
            bucket=bucket,
        )

    # ---------------------------------------------------------------------------------------- within a global batch

    def _pair(self, index: int) -> tuple[int, int | None]:
        """The number of a sample's pair, and the sample before it whose noise it opposes; None: it is the first."""
        concepts = len(self._by_concept)
        block, place = divmod(index, 2 * concepts)
        return block * concepts + place % concepts, index - concepts if place >= concepts else None

    def _oppose(self, batch: Batch, place: int, step: int, partner: int) -> None:
        """Give a sample of a batch the opposite noise and the same timestep as its partner's."""
        other = self._draw([self.image_of(step, partner)], [generator(self.seed, _SAMPLE, step=step, index=partner)])
        batch.noise[place], batch.offset_noise[place] = -other.noise[0], -other.offset_noise[0]
        batch.timesteps[place] = other.timesteps[0]

    def _timestep_in_stratum(self, step: int, index: int) -> int:
        """A timestep of the part of the range that a random order of the parts has for this sample, or this pair."""
        number = self._pair(index)[0] if self.antithetic else index
        count = 1 + max(self._pair(i)[0] for i in range(self.global_batch)) if self.antithetic else self.global_batch
        stratum = generator(self.seed, _STRATUM, step=step).permutation(count)[number]
        place = (stratum + generator(self.seed, _STRATUM, step=step, index=number + 1).random()) / count
        low, high = self._timestep_range
        return min(low + int(place * (high - low)), high - 1)

    # ------------------------------------------------------------------------------------------------ equal shares

    @property
    def _timestep_range(self) -> tuple[int, int]:
        return self.timestep_range or (0, self.num_train_timesteps)

    @cached_property
    def _by_concept(self) -> list[list[int]]:
        """The images of each concept."""
        count = 1 + max(image.concept for image in self.images)
        return [[i for i, image in enumerate(self.images) if image.concept == c] for c in range(count)]

    @cached_property
    def _image_shares(self) -> np.ndarray:
        """Share of each image in all samples, float64: equal among concepts, and among a concept's images."""
        return np.array([1.0 / (len(self._by_concept) * len(self._by_concept[i.concept])) for i in self.images])

    @cached_property
    def _bucket_shares(self) -> np.ndarray:
        buckets = [image.bucket for image in self.images]
        return np.bincount(buckets, weights=self._image_shares, minlength=len(self.latent_shapes))

    def _image_in_bucket(self, step: int, index: int) -> int:
        """Systematic sampling: evenly spaced places, moved together by one random start, on the images' shares."""
        bucket = self.bucket_of(step)
        images = [i for i, image in enumerate(self.images) if image.bucket == bucket]
        start = generator(self.seed, _BUCKET, step=step, index=1).random()
        return images[_place((index + start) / self.global_batch, self._image_shares[images])]

    def _image_in_turn(self, number: int) -> int:
        turn, concept = divmod(number, len(self._by_concept))
        images = self._by_concept[concept]
        return images[turn % len(images)]


def _normal(g: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return g.standard_normal(shape, dtype=np.float32)


def _place(share: float, shares: np.ndarray) -> int:
    """In which of consecutive parts a place in [0, 1) lies, where each takes its share of the whole."""
    ends = np.cumsum(shares)
    # The last end may round to less than the whole; a part without a share is never taken.
    return min(int(np.searchsorted(ends, share * ends[-1], side="right")), int(np.flatnonzero(shares)[-1]))


def _coprime_stride(size: int) -> int:
    """A step near the golden section of `size` that visits every residue once."""
    stride = max(1, round(size * 0.618))
    while np.gcd(stride, size) != 1:
        stride += 1
    return stride
