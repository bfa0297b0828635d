"""The training images of a run: looked at with their prompts and masks, resized, and encoded by the VAE.

An image is decoded twice: when the run begins, so that whatever is wrong with it is said before a model is loaded, and
on the way to its latents. At no time is more than one kept at its full size, besides those that threads read ahead.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import paddle
from PIL import Image

from textual_inversion.data import latent_files
from textual_inversion.data.captions import ImagePrompts, check_effects, prompts_of
from textual_inversion.data.image_folder import find_images, repeat_folder
from textual_inversion.data.image_memory import MOST_BYTES
from textual_inversion.data.image_sequence import ImageSequence
from textual_inversion.data.images import content_digest, load_image, memory_of, to_array, to_bytes
from textual_inversion.data.latents import LatentCache, LiveLatents, encode_posteriors
from textual_inversion.data.masks import MaskFile, Masks, check_alpha, masks_for
from textual_inversion.data.previews import Previews
from textual_inversion.data.prompt_variation import PromptVariation, make_variation
from textual_inversion.data.resizing import Resizer, Shape
from textual_inversion.data.sampler import Batch
from textual_inversion.data.training_image import TrainingImage
from textual_inversion.models.base_model import BaseModel
from textual_inversion.settings.concept import Concept
from textual_inversion.settings.train_data import ImageSettings, PromptSettings
from textual_inversion.system.device import to_device
from textual_inversion.system.errors import ImageError
from textual_inversion.system.paths import portable
from textual_inversion.system.progress import LateProgress

Say = Callable[[str], None]
Item, Result = TypeVar("Item"), TypeVar("Result")


@dataclass(frozen=True)
class ImageFile:
    """A training image that was looked at.

    Attributes:
        path: where it is.
        size: (width, height) in pixels, upright.
        digest: of its pixels.
        version: changes with the file.
    """

    path: Path
    size: tuple[int, int]
    digest: bytes
    version: tuple[int, int] | None = None

    def load(self) -> Image.Image:
        """The image again, RGB; raises ImageError, also if it is no longer the same."""
        version = _version_of(self.path)
        image = load_image(self.path)
        # Hashing the pixels takes as long as decoding them: an untouched file is taken at its word.
        if version != self.version and content_digest(image) != self.digest:
            raise ImageError(f"{self.path}: has changed since this run began; start the run again")
        return image


@dataclass(frozen=True)
class ReadImages:
    """Training images as they were looked at; their size is decided later, by the base model.

    Attributes:
        images: the concept and the prompts of each image, in the order of the concepts.
        files: the file of each image.
        masks: the mask of each image; () without masks.
        variation: makes the samples' prompts.
    """

    images: tuple[TrainingImage, ...]
    files: tuple[ImageFile, ...]
    masks: tuple[MaskFile, ...] = ()
    variation: PromptVariation = PromptVariation()

    def of_concept(self, index: int) -> ImageSequence:
        """The original images of one concept, given by its index; each is read when it is asked for."""
        files = [file for file, image in zip(self.files, self.images, strict=True) if image.concept == index]
        return ImageSequence(files, ImageFile.load)

    @property
    def epoch_samples(self) -> int:
        """Samples in an epoch."""
        return sum(image.repeats for image in self.images)

    @property
    def distinct_prompts(self) -> list[str]:
        """All training prompts, each once, sorted."""
        return sorted({prompt for image in self.images for prompt in image.prompts + image.templates})

    @property
    def possible_prompts(self) -> list[tuple[int, str]]:
        """(index of the concept, prompt) of what samples can get, each once; see `PromptVariation.possible`."""
        if not self.variation.varies:
            return list(dict.fromkeys((image.concept, prompt) for image in self.images for prompt in image.prompts))
        alike = dict.fromkeys(replace(image, bucket=0, repeats=1) for image in self.images)
        return list(dict.fromkeys((image.concept, text) for image in alike for text in self.variation.possible(image)))


@dataclass(frozen=True)
class TrainingSet:
    """The training images in the form that training needs.

    Attributes:
        images: the concept, the prompts and the bucket of each image.
        shapes: (height, width) in pixels, by bucket.
        previews: small versions of the images as the model sees them.
        latents: gives the latents of a batch.
        masks: which parts of the images are learned; None: all.
        names: of the images' files.
    """

    images: tuple[TrainingImage, ...]
    shapes: list[Shape]
    previews: ImageSequence
    latents: LatentCache | LiveLatents
    masks: Masks | None = None
    names: tuple[str, ...] = ()

    @property
    def latent_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """(C, H, W) of the latents, by bucket."""
        buckets = [image.bucket for image in self.images]
        return tuple(self.latents.shape_of(buckets.index(bucket)) for bucket in range(len(self.shapes)))

    def mask(self, batch: Batch) -> paddle.Tensor | None:
        """The weight of each latent position of a batch in the loss: float32 [B, 1, H, W]; None: all are equal."""
        return None if self.masks is None else to_device(self.masks.weights(batch))

    def previews_of(self, concept: int) -> ImageSequence:
        """The small versions of one concept's images; the concept is given by its index."""
        return self.previews.where(image.concept == concept for image in self.images)


def read_images(
    concepts: Sequence[Concept],
    settings: ImageSettings,
    prompt_settings: PromptSettings,
    language: str,
    repeats: int,
    say: Say,
    *,
    shows_progress: bool = True,
) -> ReadImages:
    """Look at the images and masks of every concept, and make their prompts.

    Args:
        language: of the prompt templates, one of `choices.LANGUAGES`.
        repeats: times an image is seen in an epoch, unless the name of its folder says otherwise.
        say: called with a line about each thing that was found or skipped.
        shows_progress: whether this process shows how far it is.

    Raises:
        ImageError: a folder or an image cannot be used.
        OutputError: the folder of latents cannot be made.
        SettingsError: a caption or a template file cannot be used.
    """
    if settings.cache_latents_dir:
        latent_files.make_folder(settings.cache_latents_dir)
    images, files, masks, found = [], [], [], []
    for index, concept in enumerate(concepts):
        paths = find_images(concept.image_folder, note=say)
        own = _look_at(paths, settings.dataloader_num_workers, say, shows_progress)
        folder = settings.mask_dir[index] if settings.mask_dir else None
        masks += masks_for([(one.path, one.size) for one in own], folder, alpha=settings.alpha_mask, note=say)
        files += own
        template_file = prompt_settings.template_file[index] if prompt_settings.template_file else None
        prompts = prompts_of(concept, paths, prompt_settings, template_file, language, note=say)
        times = [_repeats_of(path, Path(concept.image_folder), repeats) for path in paths]
        images += [_training_image(index, own, n) for own, n in zip(prompts, times, strict=True)]
        found += prompts
        say(f"{len(paths)} training image(s) of {concept.placeholder_token} in {portable(concept.image_folder)}")
    if settings.alpha_mask:
        check_alpha(masks)
    check_effects(prompt_settings, found)
    variation = make_variation(prompt_settings, [concept.placeholder_token for concept in concepts])
    return ReadImages(tuple(images), tuple(files), tuple(masks), variation)


def _training_image(concept: int, prompts: ImagePrompts, repeats: int) -> TrainingImage:
    return TrainingImage(
        concept, prompts.prompts, repeats=repeats, templates=prompts.templates, has_captions=prompts.has_captions
    )


def _look_at(paths: Sequence[Path], workers: int, say: Say, shows_progress: bool) -> list[ImageFile]:
    """Decode images once, and keep what is to be known of them."""

    def look(path: Path) -> ImageFile:
        version = _version_of(path)
        image = load_image(path, note=say)
        return ImageFile(path, image.size, content_digest(image), version)

    with LateProgress(len(paths), "reading image", enabled=shows_progress) as progress:
        return [progress.after(file) for file in ahead(look, paths, workers, memory=memory_of)]


def _version_of(path: Path) -> tuple[int, int] | None:
    """Size and time of a file; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _repeats_of(path: Path, folder: Path, repeats: int) -> int:
    meaning = repeat_folder(path.parent.name) if path.parent != folder else None
    return repeats if meaning is None else meaning.repeats


def encode_images(
    read: ReadImages,
    model: BaseModel,
    settings: ImageSettings,
    size: Shape,
    *,
    keep_vae: bool,
    say: Say,
    shows_progress: bool = True,
) -> TrainingSet:
    """Resize every training image, and encode it once with the VAE, or at every step where it is cropped at random.

    Args:
        size: (height, width) in pixels.
        keep_vae: whether the VAE is needed again soon; otherwise it is freed.
        say: called with the buckets, with the cost of random crops, and with what was found on disk.
        shows_progress: whether this process shows how far it is.

    Raises:
        ImageError: an image or a mask is no longer what it was, or too little of a mask is left.
    """
    height, width = size
    resizer = Resizer(settings.resize_mode, height, width, settings.interpolation, model.side_factor)
    shapes, buckets = resizer.buckets([file.size for file in read.files])
    resizer.report(shapes, buckets, say)
    images = tuple(replace(image, bucket=bucket) for image, bucket in zip(read.images, buckets, strict=True))
    masks = None
    if read.masks:
        loaded = (mask.load() for mask in read.masks)
        masks = Masks(loaded, resizer, shapes, buckets, model.vae_scale_factor, settings.unmasked_weight)
    framed = list(zip(read.files, (shapes[bucket] for bucket in buckets), strict=True))
    previews = Previews(len(framed))
    names = tuple(file.path.name for file in read.files)
    if settings.resize_mode == "random_crop":
        sources = _sources(framed, resizer, previews, settings.dataloader_num_workers)
        return TrainingSet(images, shapes, previews.images, LiveLatents(model, sources, shapes[0]), masks, names)
    with LateProgress(len(framed), "encoding image", enabled=shows_progress) as progress:
        latents = _encoded(framed, model, settings, resizer, previews, progress, say)
    if not keep_vae:
        model.free_vae()
    return TrainingSet(images, shapes, previews.images, latents, masks, names)


def _encoded(
    framed: Sequence[tuple[ImageFile, Shape]],
    model: BaseModel,
    settings: ImageSettings,
    resizer: Resizer,
    previews: Previews,
    progress: LateProgress,
    say: Say,
) -> LatentCache:
    """What the VAE makes of each image, or what was found on disk."""
    folder = settings.cache_latents_dir
    return encode_posteriors(
        model.vae,
        _pixels(framed, resizer, previews, settings.dataloader_num_workers, progress),
        [shape for _, shape in framed],
        mirrored=settings.flip_p > 0,
        batch_size=settings.vae_batch_size,
        files=latent_files.LatentFiles(folder, model.vae, model.vae_scale_factor, say) if folder else None,
    )


def _pixels(
    framed: Sequence[tuple[ImageFile, Shape]],
    resizer: Resizer,
    previews: Previews,
    workers: int,
    progress: LateProgress,
) -> Iterator[np.ndarray]:
    """The images as the model sees them, float32 [3, H, W] in [-1, 1], one at a time."""
    for image in ahead(lambda one: resizer.resize(one[0].load(), one[1]), framed, workers, memory=_memory_of):
        previews.add(image)
        yield to_array(image)
        progress.after(image)


def _sources(
    framed: Sequence[tuple[ImageFile, Shape]], resizer: Resizer, previews: Previews, workers: int
) -> list[np.ndarray]:
    """What random crops are cut from, uint8 [3, H, W]."""

    def both(one: tuple[ImageFile, Shape]) -> tuple[Image.Image, Image.Image]:
        image, shape = one[0].load(), one[1]
        return resizer.resize(image, shape), resizer.crop_source(image, shape)

    sources = []
    for preview, source in ahead(both, framed, workers, memory=_memory_of):
        previews.add(preview)
        sources.append(to_bytes(source))
    return sources


def _memory_of(one: tuple[ImageFile, Shape]) -> int:
    return memory_of(one[0].path)


def ahead(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    *,
    memory: Callable[[Item], int] = lambda item: 0,
) -> Iterator[Result]:
    """The results of a function, in the order of the items; `workers` threads are at most as many results ahead.

    Args:
        workers: 0: no threads.
        memory: bytes that an item takes while the function works; of all that are in work, at most `MOST_BYTES`, or
            one item.
    """
    if workers < 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(max_workers=workers) as pool:
        waiting: deque[tuple[Future, int]] = deque()
        try:
            for item in items:
                needed = memory(item)
                while waiting and (len(waiting) > workers or needed + _in_work(waiting) > MOST_BYTES):
                    yield waiting.popleft()[0].result()
                waiting.append((pool.submit(function, item), needed))
            while waiting:
                yield waiting.popleft()[0].result()
        finally:
            for future, _ in waiting:
                future.cancel()


def _in_work(waiting: Iterable[tuple[Future, int]]) -> int:
    return sum(needed for future, needed in waiting if not future.done())
