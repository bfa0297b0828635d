"""The training images of a run and those that are held out: looked at, with their prompts and masks.

Each is decoded, so that whatever is wrong with it is said before a model is loaded, and none is kept. `dataset` brings
them into the form that training needs.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from textual_inversion.data import latent_files
from textual_inversion.data.captions import ImagePrompts, check_effects, prompts_of
from textual_inversion.data.image_files import ImageFile, look_at
from textual_inversion.data.image_folder import find_images, listed, repeat_folder
from textual_inversion.data.image_sequence import ImageSequence
from textual_inversion.data.masks import MaskFile, check_alpha, masks_for
from textual_inversion.data.prompt_variation import PromptVariation, make_variation
from textual_inversion.data.segmentation import Segmenter
from textual_inversion.data.training_image import TrainingImage
from textual_inversion.settings.choices import ALPHA, BACKGROUND
from textual_inversion.settings.concept import Concept
from textual_inversion.settings.train_data import ImageSettings, PromptSettings
from textual_inversion.system.paths import portable

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
    for index, seen, is_contrast in _folders_of(concepts):
        paths = find_images(seen.image_folder, note=say, **({"called": _GOOD} if is_contrast else {}))
        wants_focus = settings.resize_mode == "focal_crop"
        own = look_at(paths, settings.dataloader_num_workers, say, shows_progress, wants_focus=wants_focus)
        mask_folder = settings.mask_dir[index] if settings.mask_dir else None
        masks += _masks_of(own, mask_folder, is_contrast=is_contrast, **source)
        files += own
        template_file = prompt_settings.template_file[index] if prompt_settings.template_file else None
        prompts = prompts_of(seen, paths, prompt_settings, template_file, language, note=say)
        times = [_repeats_of(path, Path(seen.image_folder), repeats) for path in paths]
        images += [_training_image(index, one, n, is_contrast) for one, n in zip(prompts, times, strict=True)]
        found += prompts
        say(f"{len(paths)} {_what(seen, called, is_contrast)} in {portable(seen.image_folder)}")
    if settings.mask_from == ALPHA:
        check_alpha(masks)
    check_effects(prompt_settings, found)
    variation = make_variation(prompt_settings, [concept.placeholder_token for concept in concepts])
    return ReadImages(tuple(images), tuple(files), tuple(masks), variation)


def _folders_of(concepts: Sequence[Concept]) -> Iterator[tuple[int, Concept, bool]]:
    """(index, concept, whether it is trained away from what is seen) for each folder of images, in order.

    The folder is the concept's `image_folder`.
    """
    for index, concept in enumerate(concepts):
        yield index, concept, False
        if concept.contrast_folder:
            yield index, replace(concept, image_folder=concept.contrast_folder), True


def _what(concept: Concept, called: str, is_contrast: bool) -> str:
    """What a folder holds, for people."""
    if is_contrast:
        return f"image(s) to train away from {concept.placeholder_token}"
    return f"{called} of {concept.placeholder_token}"


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
