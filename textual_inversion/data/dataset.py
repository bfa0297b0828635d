"""The training images of a run: looked at with their prompts and masks, resized, and encoded by the VAE.

An image is decoded twice: when the run begins, so that whatever is wrong with it is said before a model is loaded, and
on the way to its latents. At no time is more than one kept at its full size, besides those that threads read ahead.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import paddle
from PIL import Image

from textual_inversion.data import latent_files
from textual_inversion.data.augmentation import make_augmentation
from textual_inversion.data.captions import ImagePrompts, check_effects, prompts_of
from textual_inversion.data.framed_images import Cutter, Framed, with_learned
from textual_inversion.data.image_files import ImageFile, ahead, look_at
from textual_inversion.data.image_folder import find_images, listed, repeat_folder
from textual_inversion.data.image_sequence import ImageSequence
from textual_inversion.data.images import memory_of, to_array, to_bytes
from textual_inversion.data.latents import LatentCache, LiveLatents, encode_posteriors
from textual_inversion.data.masks import MaskFile, Masks, check_alpha, masks_for
from textual_inversion.data.previews import Previews
from textual_inversion.data.prompt_variation import PromptVariation, make_variation
from textual_inversion.data.resizing import Resizer, Shape
from textual_inversion.data.sampler import Batch
from textual_inversion.data.segmentation import Segmenter
from textual_inversion.data.training_image import TrainingImage
from textual_inversion.models.base_model import BaseModel
from textual_inversion.settings.choices import ALPHA, BACKGROUND
from textual_inversion.settings.concept import Concept
from textual_inversion.settings.train_data import ImageSettings, PromptSettings
from textual_inversion.system.device import to_device
from textual_inversion.system.paths import portable
from textual_inversion.system.progress import LateProgress

Say = Callable[[str], None]
_GOOD = "folder of good images"


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
        """The original images of one concept, given by its index; each is read when it is asked for.

        Those that it is trained away from are not among them.
        """
        pairs = zip(self.files, self.images, strict=True)
        files = [file for file, image in pairs if image.concept == index and not image.is_contrast]
        return ImageSequence(files, ImageFile.load)

    @property
    def epoch_samples(self) -> int:
        """Samples in an epoch. An image that is cut into parts counts once."""
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
        images: the concept, the prompts and the bucket of each image, or part of one.
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

    @property
    def shown_previews(self) -> ImageSequence:
        """The small versions of what is learned: of all images but those that a word is trained away from."""
        return self.previews.where(not image.is_contrast for image in self.images)

    def previews_of(self, concept: int) -> ImageSequence:
        """The small versions of one concept's images, as `ReadImages.of_concept`."""
        return self.previews.where(image.concept == concept and not image.is_contrast for image in self.images)

    def contrasts(self, batch: Batch) -> np.ndarray:
        """Positions in a batch of the images that its words are trained away from: int64, in order."""
        return np.flatnonzero([self.images[image].is_contrast for image in batch.images])


def read_images(
    concepts: Sequence[Concept],
    settings: ImageSettings,
    prompt_settings: PromptSettings,
    language: str,
    repeats: int,
    say: Say,
    *,
    shows_progress: bool = True,
    called: str = "training image(s)",
) -> ReadImages:
    """Look at the images and masks of every concept, and make their prompts.

    Args:
        language: of the prompt templates, one of `choices.LANGUAGES`.
        repeats: times an image is seen in an epoch, unless the name of its folder says otherwise.
        say: called with a line about each thing that was found or skipped.
        shows_progress: whether this process shows how far it is.
        called: the images in messages.

    Raises:
        ImageError: a folder or an image cannot be used.
        OutputError: the folder of latents cannot be made.
        SettingsError: a caption or a template file cannot be used.
    """
    if settings.cache_latents_dir:
        latent_files.make_folder(settings.cache_latents_dir)
    segmenter = Segmenter(settings.mask_model) if settings.mask_from == BACKGROUND else None
    source = {"source": settings.mask_from, "segmenter": segmenter, "note": say}
    images, files, masks, found = [], [], [], []
    for index, concept in enumerate(concepts):
        template_file = prompt_settings.template_file[index] if prompt_settings.template_file else None
        for folder, is_contrast in ((concept.image_folder, False), (concept.contrast_folder, True)):
            if is_contrast and not folder:
                continue
            paths = find_images(folder, note=say, **({"called": _GOOD} if is_contrast else {}))
            wants_focus = settings.resize_mode == "focal_crop"
            own = look_at(paths, settings.dataloader_num_workers, say, shows_progress, wants_focus=wants_focus)
            mask_folder = settings.mask_dir[index] if settings.mask_dir else None
            masks += _masks_of(own, mask_folder, is_contrast=is_contrast, **source)
            files += own
            seen = replace(concept, image_folder=folder)
            prompts = prompts_of(seen, paths, prompt_settings, template_file, language, note=say)
            times = [_repeats_of(path, Path(folder), repeats) for path in paths]
            images += [_training_image(index, one, n, is_contrast) for one, n in zip(prompts, times, strict=True)]
            found += prompts
            what = "image(s) to train away from" if is_contrast else called
            whose = concept.placeholder_token if is_contrast else f"of {concept.placeholder_token}"
            say(f"{len(paths)} {what} {whose} in {portable(folder)}")
    if settings.mask_from == ALPHA:
        check_alpha(masks)
    check_effects(prompt_settings, found)
    variation = make_variation(prompt_settings, [concept.placeholder_token for concept in concepts])
    return ReadImages(tuple(images), tuple(files), tuple(masks), variation)


def read_held_out(
    concepts: Sequence[Concept],
    folders: Sequence[str],
    masks: Sequence[str] | None,
    settings: ImageSettings,
    prompt_settings: PromptSettings,
    language: str,
    training: ReadImages,
    say: Say,
    *,
    shows_progress: bool = True,
) -> ReadImages:
    """Look at images that are not learned from, with their prompts and masks, as `read_images` does.

    Args:
        folders: of each concept.
        masks: the folder of masks of each concept, or None.
        training: the images that are learned from; those that are among both are said.
    """
    pairs = zip(concepts, folders, strict=True)
    own = [replace(concept, image_folder=folder, contrast_folder="") for concept, folder in pairs]
    settings = replace(unaugmented(settings), mask_dir=tuple(masks) if masks else None)
    found = read_images(own, settings, prompt_settings, language, 1, say, shows_progress=shows_progress,
                        called="held-out image(s)")  # fmt: skip
    known = {file.digest for file in training.files}
    both = [file.path.name for file in found.files if file.digest in known]
    if both:
        say(f"note: {len(both)} held-out image(s) are training images as well: {listed(both)}")
    return found


def unaugmented(settings: ImageSettings) -> ImageSettings:
    """The settings with which images are seen as they are; of random crops, the one in the middle."""
    mode = "center_crop" if settings.resize_mode == "random_crop" else settings.resize_mode
    return replace(
        settings, resize_mode=mode, flip_p=0.0, rotation=0.0, brightness_jitter=0.0, contrast_jitter=0.0,
        saturation_jitter=0.0, hue_jitter=0.0, augmented_variants=None,
    )  # fmt: skip


def _masks_of(files: Sequence[ImageFile], folder: str | None, *, is_contrast: bool, **source: object) -> list[MaskFile]:
    """The masks of images in one folder; none where the run has none. Files of masks are for what is learned alone."""
    if folder is not None and is_contrast:
        return [MaskFile.whole(file.path, file.size) for file in files]
    return masks_for([(file.path, file.size) for file in files], folder, **source)


def _training_image(concept: int, prompts: ImagePrompts, repeats: int, is_contrast: bool) -> TrainingImage:
    return TrainingImage(
        concept,
        prompts.prompts,
        repeats=repeats,
        templates=prompts.templates,
        has_captions=prompts.has_captions,
        is_contrast=is_contrast,
    )


def _repeats_of(path: Path, folder: Path, repeats: int) -> int:
    meaning = repeat_folder(path.parent.name) if path.parent != folder else None
    return repeats if meaning is None else meaning.repeats


def encode_images(
    read: ReadImages,
    model: BaseModel,
    settings: ImageSettings,
    size: Shape,
    *,
    seed: int = 0,
    keep_vae: bool,
    say: Say,
    shows_progress: bool = True,
) -> TrainingSet:
    """Resize every training image, and encode its variants once with the VAE, or a random crop of it at every step.

    Args:
        size: (height, width) in pixels.
        seed: of the run; it decides the variants.
        keep_vae: whether the VAE is needed again soon; otherwise it is freed.
        say: called with the buckets, with the cost of random crops, and with what was found on disk.
        shows_progress: whether this process shows how far it is.

    Raises:
        ImageError: an image or a mask is no longer what it was, or too little of a mask is left.
    """
    height, width = size
    rows = settings.tile_rows
    resizer = Resizer(settings.resize_mode, height, width, settings.interpolation, model.side_factor, rows)
    shapes, buckets = resizer.buckets([file.size for file in read.files])
    resizer.report(shapes, buckets, say, encodes_live=settings.encodes_live)
    augmentation = make_augmentation(settings, seed)
    framed = [
        Framed(number, file, resizer.frames(file.size, shapes[bucket], file.focus))
        for number, (file, bucket) in enumerate(zip(read.files, buckets, strict=True))
    ]
    masks = None
    if read.masks:
        loaded = (mask.load() for mask in read.masks)
        masks = Masks(loaded, resizer, shapes, buckets, model.vae_scale_factor, settings.unmasked_weight,
                      frames=[one.frames for one in framed], augmentation=augmentation)  # fmt: skip
        framed = list(with_learned(framed, masks.learned))
        masks.keep_learned()
    images = tuple(
        replace(image, bucket=bucket)
        for image, bucket, one in zip(read.images, buckets, framed, strict=True)
        for _ in one.frames
    )
    if settings.resize_mode == "tiles":
        say(f"{len(framed)} image(s) are cut into {len(images)} parts, each learned as an image of its own")
    names = tuple(file.path.name for file, one in zip(read.files, framed, strict=True) for _ in one.frames)
    previews = Previews(len(images))
    if settings.encodes_live:
        sources = _sources(framed, resizer, previews, settings.dataloader_num_workers)
        return TrainingSet(images, shapes, previews.images, LiveLatents(model, sources, shapes[0]), masks, names)
    with LateProgress(len(framed), "encoding image", enabled=shows_progress) as progress:
        cutter = Cutter(resizer, augmentation, settings.dataloader_num_workers)
        latents = _encoded(framed, model, settings, cutter, previews, progress, say)
    if augmentation.variants > 1:
        megabytes = latents.memory / 1e6
        say(f"each is encoded in {augmentation.variants} variants, whose latents take {megabytes:.1f} MB")
    if not keep_vae:
        model.free_vae()
    return TrainingSet(images, shapes, previews.images, latents, masks, names)


def _encoded(
    framed: Sequence[Framed],
    model: BaseModel,
    settings: ImageSettings,
    cutter: Cutter,
    previews: Previews,
    progress: LateProgress,
    say: Say,
) -> LatentCache:
    """What the VAE makes of each image, or what was found on disk."""
    folder = settings.cache_latents_dir
    return encode_posteriors(
        model.vae,
        _pixels(framed, cutter, previews, progress),
        [frame.shape for one in framed for frame in one.frames],
        mirrored=settings.flip_p > 0,
        batch_size=settings.vae_batch_size,
        files=latent_files.LatentFiles(folder, model.vae, model.vae_scale_factor, say) if folder else None,
        variants=cutter.augmentation.variants,
    )


def _pixels(
    framed: Sequence[Framed], cutter: Cutter, previews: Previews, progress: LateProgress
) -> Iterator[np.ndarray]:
    """The images as the model sees them, float32 [3, H, W] in [-1, 1]: all variants of each part, one after another."""
    for parts in ahead(cutter.variants, framed, cutter.workers, memory=_memory_of):
        for variants in parts:
            previews.add(variants[0])
            yield from map(to_array, variants)
        progress.after(parts)


def _sources(framed: Sequence[Framed], resizer: Resizer, previews: Previews, workers: int) -> list[np.ndarray]:
    """What random crops are cut from, uint8 [3, H, W]."""

    def both(one: Framed) -> tuple[Image.Image, Image.Image]:
        image, (frame,) = one.file.load(), one.frames
        return resizer.cut(image, frame), resizer.crop_source(image, frame.shape)

    sources = []
    for preview, source in ahead(both, framed, workers, memory=_memory_of):
        previews.add(preview)
        sources.append(to_bytes(source))
    return sources


def _memory_of(one: Framed) -> int:
    return memory_of(one.file.path)
