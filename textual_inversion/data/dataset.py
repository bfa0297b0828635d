"""The training images of a run in the form that training needs: resized, and encoded by the VAE.

An image is decoded twice: when the run begins, by `read_images`, and here, on the way to its latents. At no time is
more than one kept at its full size, besides those that threads read ahead.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import paddle
from PIL import Image

from textual_inversion.data import latent_files
from textual_inversion.data.augmentation import make_augmentation
from textual_inversion.data.framed_images import Cutter, Framed, with_learned
from textual_inversion.data.image_files import ahead
from textual_inversion.data.image_sequence import ImageSequence
from textual_inversion.data.images import memory_of, to_array, to_bytes
from textual_inversion.data.latents import LatentCache, LiveLatents, encode_posteriors
from textual_inversion.data.masks import Masks
from textual_inversion.data.previews import Previews
from textual_inversion.data.read_images import ReadImages, Say
from textual_inversion.data.resizing import Resizer, Shape
from textual_inversion.data.sampler import Batch
from textual_inversion.data.training_image import TrainingImage
from textual_inversion.models.base_model import BaseModel
from textual_inversion.settings.train_data import ImageSettings
from textual_inversion.system.device import to_device
from textual_inversion.system.progress import LateProgress

_T = TypeVar("_T")


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
    resizer = Resizer(settings.resize_mode, *size, settings.interpolation, model.side_factor, settings.tile_rows)
    shapes, buckets = resizer.buckets([file.size for file in read.files])
    resizer.report(shapes, buckets, say, encodes_live=settings.encodes_live)
    augmentation, workers = make_augmentation(settings, seed), settings.dataloader_num_workers
    framed, masks = _framed(read, resizer, shapes, buckets), None
    if read.masks:
        masks = Masks((mask.load() for mask in read.masks), resizer, shapes, buckets, model.vae_scale_factor,
                      settings.unmasked_weight, frames=[one.frames for one in framed],
                      augmentation=augmentation)  # fmt: skip
        framed = list(with_learned(framed, masks.learned))
        masks.keep_learned()
    placed = [replace(image, bucket=bucket) for image, bucket in zip(read.images, buckets, strict=True)]
    images, names = _by_part(placed, framed), _by_part([file.path.name for file in read.files], framed)
    if settings.resize_mode == "tiles":
        say(f"{len(framed)} image(s) are cut into {len(images)} parts, each learned as an image of its own")
    previews = Previews(len(images))
    if settings.encodes_live:
        latents = LiveLatents(model, _sources(framed, resizer, previews, workers), shapes[0])
    else:
        cutter = Cutter(resizer, augmentation, workers)
        latents = _encoded(framed, model, settings, cutter, previews, say, shows_progress=shows_progress)
        if not keep_vae:
            model.free_vae()
    return TrainingSet(images, shapes, previews.images, latents, masks, names)


def _framed(read: ReadImages, resizer: Resizer, shapes: Sequence[Shape], buckets: Sequence[int]) -> list[Framed]:
    """The images with their parts."""
    return [
        Framed(number, file, resizer.frames(file.size, shapes[bucket], file.focus))
        for number, (file, bucket) in enumerate(zip(read.files, buckets, strict=True))
    ]


def _by_part(values: Iterable[_T], framed: Sequence[Framed]) -> tuple[_T, ...]:
    """A value of each image, once for each part of it that is learned."""
    return tuple(value for value, one in zip(values, framed, strict=True) for _ in one.frames)


def _encoded(
    framed: Sequence[Framed],
    model: BaseModel,
    settings: ImageSettings,
    cutter: Cutter,
    previews: Previews,
    say: Say,
    *,
    shows_progress: bool,
) -> LatentCache:
    """What the VAE makes of each image, or what was found on disk."""
    folder, variants = settings.cache_latents_dir, cutter.augmentation.variants
    with LateProgress(len(framed), "encoding image", enabled=shows_progress) as progress:
        latents = encode_posteriors(
            model.vae,
            _pixels(framed, cutter, previews, progress),
            [frame.shape for one in framed for frame in one.frames],
            mirrored=settings.flip_p > 0,
            batch_size=settings.vae_batch_size,
            files=latent_files.LatentFiles(folder, model.vae, model.vae_scale_factor, say) if folder else None,
            variants=variants,
        )
    if variants > 1:
        say(f"each is encoded in {variants} variants, whose latents take {latents.memory / 1e6:.1f} MB")
    return latents


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
