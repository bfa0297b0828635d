"""The training images of a run: read with their prompts and masks, resized, and encoded by the VAE."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import paddle
from PIL import Image

from textual_inversion.data.captions import prompts_of
from textual_inversion.data.images import find_images, load_image, to_array
from textual_inversion.data.latents import LatentCache, LiveLatents, encode_posteriors
from textual_inversion.data.masks import Masks, check_alpha, masks_for
from textual_inversion.data.resizing import Resizer, Shape
from textual_inversion.data.sampler import Batch, TrainingImage
from textual_inversion.models.base_model import BaseModel
from textual_inversion.settings.concept import Concept
from textual_inversion.settings.train import ImageSettings, PromptSettings
from textual_inversion.system.device import to_device
from textual_inversion.system.paths import portable

Say = Callable[[str], None]


@dataclass(frozen=True)
class ReadImages:
    """Training images as they were read; their size is decided later, by the base model.

    Attributes:
        images: the concept and the prompts of each image, in the order of the concepts.
        originals: RGB PIL images.
        masks: PIL images of mode L, one for each image; [] without masks.
    """

    images: tuple[TrainingImage, ...]
    originals: list[Image.Image]
    masks: list[Image.Image]

    def of_concept(self, index: int) -> list[Image.Image]:
        """The original images of one concept, given by its index."""
        return [original for original, image in zip(self.originals, self.images, strict=True) if image.concept == index]

    @property
    def distinct_prompts(self) -> list[str]:
        """All training prompts, each once, sorted."""
        return sorted({prompt for image in self.images for prompt in image.prompts})


@dataclass(frozen=True)
class TrainingSet:
    """The training images in the form that training needs.

    Attributes:
        images: the concept, the prompts and the bucket of each image.
        shapes: (height, width) in pixels, by bucket.
        pixels: float32 [3, H, W] in [-1, 1], one for each image.
        latents: gives the latents of a batch.
        masks: which parts of the images are learned; None: all.
    """

    images: tuple[TrainingImage, ...]
    shapes: list[Shape]
    pixels: list[np.ndarray]
    latents: LatentCache | LiveLatents
    masks: Masks | None = None

    @property
    def latent_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """(C, H, W) of the latents, by bucket."""
        buckets = [image.bucket for image in self.images]
        return tuple(self.latents.shape_of(buckets.index(bucket)) for bucket in range(len(self.shapes)))

    def mask(self, batch: Batch) -> paddle.Tensor | None:
        """The weight of each latent position of a batch in the loss: float32 [B, 1, H, W]; None: all are equal."""
        return None if self.masks is None else to_device(self.masks.weights(batch))

    def pixels_of(self, concept: int) -> list[np.ndarray]:
        """The pixels of one concept's images; the concept is given by its index."""
        return [array for array, image in zip(self.pixels, self.images, strict=True) if image.concept == concept]


def read_images(
    concepts: Sequence[Concept], settings: ImageSettings, prompt_settings: PromptSettings, language: str, say: Say
) -> ReadImages:
    """Read the images and masks of every concept, and make their prompts.

    Args:
        language: of the prompt templates, one of `choices.LANGUAGES`.
        say: called with a line about each thing that was found or skipped.

    Raises:
        ImageError: a folder or an image cannot be used.
        SettingsError: a caption or a template file cannot be used.
    """
    images, originals, masks = [], [], []
    for index, concept in enumerate(concepts):
        paths = find_images(concept.image_folder, note=say)
        with ThreadPoolExecutor(max_workers=max(1, settings.dataloader_num_workers)) as pool:
            originals_of_concept = list(pool.map(lambda path: load_image(path, note=say), paths))
        folder = settings.mask_dir[index] if settings.mask_dir else None
        masks += masks_for(originals_of_concept, paths, folder, alpha=settings.alpha_mask, note=say)
        originals += originals_of_concept
        template_file = prompt_settings.template_file[index] if prompt_settings.template_file else None
        image_prompts = prompts_of(concept, paths, prompt_settings, template_file, language, note=say)
        images += [TrainingImage(index, prompts) for prompts in image_prompts]
        say(f"{len(paths)} training image(s) of {concept.placeholder_token} in {portable(concept.image_folder)}")
    if settings.alpha_mask:
        check_alpha(masks)
    return ReadImages(tuple(images), originals, masks)


def encode_images(
    read: ReadImages, model: BaseModel, settings: ImageSettings, size: Shape, *, keep_vae: bool, say: Say
) -> TrainingSet:
    """Resize every training image, and encode it once with the VAE, or at every step where it is cropped at random.

    Args:
        size: (height, width) in pixels.
        keep_vae: whether the VAE is needed again soon; otherwise it is freed.
        say: called with the buckets, or with the cost of random crops.
    """
    height, width = size
    resizer = Resizer(settings.resize_mode, height, width, settings.interpolation, model.side_factor)
    shapes, buckets = resizer.buckets([original.size for original in read.originals])
    resizer.report(shapes, buckets, say)
    images = tuple(replace(image, bucket=bucket) for image, bucket in zip(read.images, buckets, strict=True))
    shaped = list(zip(read.originals, (shapes[bucket] for bucket in buckets), strict=True))
    pixels = [to_array(resizer.resize(original, shape)) for original, shape in shaped]
    masks = None
    if read.masks:
        masks = Masks(read.masks, resizer, shapes, buckets, model.vae_scale_factor, settings.unmasked_weight)
    if settings.resize_mode == "random_crop":
        sources = [to_array(resizer.crop_source(original, shape)) for original, shape in shaped]
        return TrainingSet(images, shapes, pixels, LiveLatents(model, sources, shapes[0]), masks)
    latents = encode_posteriors(model.vae, pixels, mirrored=settings.flip_p > 0)
    if not keep_vae:
        model.free_vae()
    return TrainingSet(images, shapes, pixels, latents, masks)
