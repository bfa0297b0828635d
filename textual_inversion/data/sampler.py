"""Which image, flip, crop, variant, prompt, timestep and noise each training sample gets.

A sample is a pure function of (seed, optimizer step, index in the global batch, size of the global batch). It is
assembled here: `image_order` chooses its image, `timesteps` its timestep, `noise` its noise, `prompt_variation` its
prompt, `vector_augmentation` its vectors, and `random_streams` gives each of them its random numbers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from textual_inversion.data.image_order import ImageOrder
from textual_inversion.data.noise import AntitheticPairs, MultiresolutionNoise, sample_noise, standard_normal
from textual_inversion.data.prompt_variation import PromptVariation
from textual_inversion.data.random_streams import Purpose, generator
from textual_inversion.data.timesteps import TimestepRange
from textual_inversion.data.training_image import TrainingImage
from textual_inversion.models.prompt_encoder import Reading

VectorChoice = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Batch:
    """One micro-batch of B samples.

    Attributes:
        images: int64 [B], indices into the training images, all of one bucket.
        flips: bool [B], whether the mirrored image is taken.
        crops: float64 [B, 2] in [0, 1), position of a random crop: (down, right), as fractions of the free space.
        prompts: B prompts with placeholder tokens.
        vectors: per sample, placeholder token -> its vectors in the prompt, in order; a token that is not named has
            all its vectors. None: every token has all its vectors.
        trained: per sample, the placeholder token whose vectors get a gradient; None: all tokens of its prompt.
        posterior_noise: float32 [B, C, H, W], standard normal, for sampling the VAE's posterior.
        noise: float32 [B, C, H, W], the noise to predict: standard normal, or with coarser noises in it.
        perturbation: float32 [B, C, H, W], standard normal, for perturbing the U-Net's input.
        offset_noise: float32 [B, C, 1, 1], standard normal, one value for each channel.
        timesteps: int64 [B], within the stream's range.
        bucket: of the images.
        variants: int64 [B], which variant of its image each sample shows; None: all show variant 0, the image itself.
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
    variants: np.ndarray | None = None

    @property
    def drawn_variants(self) -> np.ndarray:
        """int64 [B], the variant that each sample shows."""
        return np.zeros(len(self.images), np.int64) if self.variants is None else self.variants

    @property
    def readings(self) -> list[Reading]:
        """How the placeholder tokens of each prompt are read."""
        vectors = self.vectors or [{}] * len(self.prompts)
        return [Reading(chosen, trained) for chosen, trained in zip(vectors, self.trained, strict=True)]


@dataclass(frozen=True)
class SampleStream:
    """All samples of a run.

    Attributes:
        seed: 64-bit non-negative integer.
        images: the training images; every concept has at least one.
        latent_shapes: (C, H, W) by bucket.
        global_batch: samples per optimizer step, over all processes and accumulation steps.
        placeholders: the concepts' placeholder tokens; a sample trains only the one of its image's concept. None: it
            trains all placeholder tokens of its prompt.
        num_train_timesteps: length of the noise schedule.
        timestep_range: the half-open range that timesteps are drawn from; None: the whole schedule.
        flip_p: probability of a mirrored image, 0 to 1.
        variants: of each image; all are drawn equally often.
        vary: given a generator and the optimizer step, returns which vectors a sample's prompt gets; see
            `vector_augmentation.VectorPlan`.
        variation: makes a sample's prompt of the one that was drawn for it; None: takes that.
        stratified: the timesteps of a global batch lie in equal parts of the range, one in each; see `timesteps`.
        antithetic: samples form pairs of opposite noise and the same timestep; see `noise.AntitheticPairs`. With
            `stratified`, each pair gets one part of the range.
        multiresolution: adds coarser noises to the noise; None: it is standard normal. The fixed set's always is.
    """

    seed: int
    images: tuple[TrainingImage, ...]
    latent_shapes: tuple[tuple[int, int, int], ...]
    global_batch: int
    placeholders: tuple[str, ...] | None = None
    num_train_timesteps: int = 1000
    timestep_range: tuple[int, int] | None = None
    flip_p: float = 0.5
    variants: int = 1
    vary: Callable[[np.random.Generator, int], VectorChoice] | None = None
    variation: PromptVariation | None = None
    stratified: bool = False
    antithetic: bool = False
    multiresolution: MultiresolutionNoise | None = None

    def image_of(self, step: int, index: int) -> int:
        """The image of sample `index` of a step."""
        return self._order.image_of(step, index)

    def bucket_of(self, step: int) -> int:
        """The bucket of all samples of a step."""
        return self._order.bucket_of(step)

    def concepts_in(self, step: int) -> set[int]:
        """The concepts that the global batch of a step shows."""
        return self._order.concepts_in(step)

    def batch(self, step: int, indices: Sequence[int]) -> Batch:
        """The samples `indices` (each in [0, global_batch)) of optimizer step `step`, counted from 0."""
        batch = self._draw([self.image_of(step, index) for index in indices], self._generators(step, indices))
        for position, index in enumerate(indices):
            at = {"step": step, "index": index}
            batch.noise[position] = self._with_coarser(batch.noise[position], step, index)
            if self.antithetic and self._pairs.first_of(index) is not None:
                self._oppose(batch, position, step, self._pairs.first_of(index))
            if self.stratified:
                batch.timesteps[position] = self._stratified_timestep(step, index)
            batch.crops[position] = generator(self.seed, Purpose.CROP, **at).random(2)
            if batch.variants is not None:
                batch.variants[position] = generator(self.seed, Purpose.VARIANT, **at).integers(self.variants)
            perturbing = generator(self.seed, Purpose.PERTURBATION, **at)
            batch.perturbation[position] = standard_normal(perturbing, batch.noise.shape[1:])
            if self.variation:
                image, drawn = self.images[batch.images[position]], batch.prompts[position]
                batch.prompts[position] = self.variation.drawn(
                    generator(self.seed, Purpose.CAPTION, **at), image, drawn
                )
            if self.vary:
                batch.vectors.append(self.vary(generator(self.seed, Purpose.VECTOR_CHOICE, **at), step))
        return batch

    def micro_batches(self, step: int, rank: int = 0, world_size: int = 1, accumulation: int = 1) -> Iterator[Batch]:
        """This rank's share of the global batch of a step, split into `accumulation` parts of equal size."""
        size = self.global_batch // (world_size * accumulation)
        for part in range(accumulation):
            first = (rank * accumulation + part) * size
            yield self.batch(step, range(first, first + size))

    def evaluation_batches(self, size: int) -> list[Batch]:
        """A fixed set of `size` samples, one batch for each bucket that they fall into.

        Concepts and their images take turns, unflipped, cropped in the middle, with their own colours, each with its
        plain prompt and all vectors in order; timesteps are spread over the range. The training loss mostly depends on
        which timesteps were drawn. The loss on the same samples at every evaluation shows whether the vectors learn.
        Images that a word is trained away from are not among them.
        """
        timesteps = self._timesteps.spread(size)
        learned = [number for number, image in enumerate(self.images) if not image.is_contrast]
        turns = replace(self._order, concepts=tuple(self.images[number].concept for number in learned))
        images = [learned[turns.image_in_turn(number)] for number in range(size)]
        buckets = np.array([self.images[image].bucket for image in images])
        return [
            self._evaluation_batch(np.flatnonzero(buckets == bucket), images, timesteps)
            for bucket in np.unique(buckets)
        ]

    def _evaluation_batch(self, numbers: np.ndarray, images: list[int], timesteps: np.ndarray) -> Batch:
        drawn = self._draw(
            [images[number] for number in numbers],
            [generator(self.seed, Purpose.EVALUATION, index=int(number)) for number in numbers],
        )
        return self._plainly(drawn, timesteps[numbers])

    def _plainly(self, drawn: Batch, timesteps: np.ndarray) -> Batch:
        """A batch with nothing varied but its noise: unflipped, cropped in the middle, plain prompts, all vectors."""
        drawn.flips[:], drawn.crops[:], drawn.offset_noise[:] = False, 0.5, 0.0
        drawn.timesteps[:] = timesteps
        shown = [self.images[image] for image in drawn.images]
        drawn.prompts[:] = [self.variation.plain(one) if self.variation else one.prompts[0] for one in shown]
        return replace(drawn, vectors=None, variants=None)

    def image_batches(self, each: int) -> list[Batch]:
        """Every image that is learned `each` times, unflipped and with its plain prompt; one batch for each bucket.

        All images get the same timesteps and, within a bucket, the same noise, so that their losses can be compared:
        how much of a loss falls depends on the timestep most of all. The timesteps are spread over the noisier half of
        the range, where it is decided what an image shows. Samples are in the order of the images.
        """
        timesteps = np.sort(self._timesteps.spread(2 * each))[each:]
        batches = []
        learned = [(index, image) for index, image in enumerate(self.images) if not image.is_contrast]
        for bucket in sorted({image.bucket for _, image in learned}):
            images = [index for index, image in learned if image.bucket == bucket for _ in range(each)]
            generators = [generator(self.seed, Purpose.EVALUATION, step=1, index=i % each) for i in range(len(images))]
            batches.append(self._plainly(self._draw(images, generators), np.resize(timesteps, len(images))))
        return batches

    def _generators(self, step: int, indices: Sequence[int]) -> list[np.random.Generator]:
        return [generator(self.seed, Purpose.SAMPLE, step=step, index=index) for index in indices]

    def _draw(self, images: list[int], generators: list[np.random.Generator]) -> Batch:
        """A batch of whatever an image and its generator decide; crops and perturbation are zero."""
        bucket = self.images[images[0]].bucket
        shape = self.latent_shapes[bucket]
        flips, prompts, timesteps, noises = [], [], [], []
        for image, g in zip(images, generators, strict=True):  # the order of these draws is fixed
            own_prompts = self.images[image].prompts
            flips.append(g.random() < self.flip_p)
            prompts.append(own_prompts[g.integers(len(own_prompts))])
            timesteps.append(self._timesteps.uniform(g))
            noises.append(sample_noise(g, shape))
        posterior_noise, noise, offset_noise = map(np.stack, zip(*noises, strict=True))
        return Batch(
            images=np.array(images, dtype=np.int64),
            flips=np.array(flips, dtype=bool),
            crops=np.zeros((len(images), 2)),
            prompts=prompts,
            vectors=[] if self.vary else None,
            trained=[self.placeholders[self.images[i].concept] if self.placeholders else None for i in images],
            posterior_noise=posterior_noise,
            noise=noise,
            perturbation=np.zeros((len(images), *shape), dtype=np.float32),
            offset_noise=offset_noise,
            timesteps=np.array(timesteps, dtype=np.int64),
            bucket=bucket,
            variants=np.zeros(len(images), dtype=np.int64) if self.variants > 1 else None,
        )

    def _with_coarser(self, noise: np.ndarray, step: int, index: int) -> np.ndarray:
        """The noise of a sample of a step, with the coarser ones in it where there are some."""
        if self.multiresolution is None:
            return noise
        return self.multiresolution.added_to(
            noise, generator(self.seed, Purpose.MULTIRESOLUTION, step=step, index=index)
        )

    def _oppose(self, batch: Batch, position: int, step: int, first: int) -> None:
        """Give a sample of a batch the opposite noise and the timestep of sample `first`, the first of its pair."""
        other = self._draw([self.image_of(step, first)], self._generators(step, [first]))
        batch.noise[position] = -self._with_coarser(other.noise[0], step, first)
        batch.offset_noise[position] = -other.offset_noise[0]
        batch.timesteps[position] = other.timesteps[0]

    def _stratified_timestep(self, step: int, index: int) -> int:
        if self.antithetic:
            number, count = self._pairs.number_of(index), self._pairs.count(self.global_batch)
        else:
            number, count = index, self.global_batch
        return self._timesteps.stratified(self.seed, step, number, count)

    @cached_property
    def _order(self) -> ImageOrder:
        concepts = tuple(image.concept for image in self.images)
        buckets = tuple(image.bucket for image in self.images)
        repeats = tuple(image.repeats for image in self.images)
        return ImageOrder(self.seed, concepts, buckets, len(self.latent_shapes), self.global_batch, repeats)

    @cached_property
    def _timesteps(self) -> TimestepRange:
        return TimestepRange(*(self.timestep_range or (0, self.num_train_timesteps)))

    @cached_property
    def _pairs(self) -> AntitheticPairs:
        return AntitheticPairs(self._order.num_concepts)
