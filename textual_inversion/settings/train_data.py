"""Settings of a training run that say what is learned: base model, concepts, prompts, images."""

from textual_inversion.formats.learned_embedding import composed
from textual_inversion.settings import shared
from textual_inversion.settings.bounds import (
    at_once,
    count,
    natural,
    number,
    positive_int,
    share,
    side,
    vector_count,
)
from textual_inversion.settings.choices import (
    HALF_OF_THE_RUN,
    IMAGE_CHECKS,
    INTERPOLATIONS,
    LANGUAGES,
    MASK_SOURCES,
    PROPERTIES,
    RESIZE_MODES,
)
from textual_inversion.settings.flag import LOCAL, flag, group
from textual_inversion.settings.shared import CONTENTS_COMPARED, ONE_MACHINE
from textual_inversion.system.paths import from_root

DEFAULT_VARIANTS = 8  # of an image whose colours or angle change

# One or two lines per flag.
# fmt: off


@group("base model")
class BaseModelSettings:
    """Which frozen base model is used, and which of its files."""

    pretrained_model_name_or_path: str = flag(
        from_root("demo/model"), "a folder or repository id, in the ppdiffusers or the diffusers layout",
        metavar="MODEL", recorded_portably=True, **CONTENTS_COMPARED)
    tokenizer_name: str | None = flag(
        None, "a tokenizer other than the base model's",
        metavar="MODEL", recorded_portably=True, is_reused=True, **CONTENTS_COMPARED)
    revision: str | None = shared.revision_flag()
    variant: str | None = shared.variant_flag()
    cache_dir: str | None = shared.cache_dir_flag()
    vae: str | None = shared.vae_flag()
    clip_skip: int | None = shared.clip_skip_flag("the model's own")
    max_token_length: int | None = shared.max_token_length_flag("training prompts", "one chunk")
    language: str = flag("en", "language of the training prompts", choices=LANGUAGES, is_reused=True)


@group("concepts")
class ConceptSettings:
    """Which concepts are learned, and from which images."""

    train_data_dir: tuple[str, ...] = flag(
        (from_root("cat_toy_images"),), "folder of training images, or hub:OWNER/NAME, a data set of Hugging Face",
        nargs="+", metavar="DIR", per_concept=True, recorded_portably=True, is_reused=True, **CONTENTS_COMPARED)
    placeholder_token: tuple[str, ...] = flag(
        ("<cat-toy>",), "what stands for the concept in prompts, one per concept",
        nargs="+", type=composed, metavar="WORD")
    initializer_token: tuple[str, ...] | None = flag(
        None, "a known word or phrase that the vectors start from; auto: of words near to the images the one with the "
        "lowest loss; unset: random numbers, for the demo toy or style", nargs="+", metavar="WORD", per_concept=True)
    initializer_embeds: tuple[str, ...] | None = flag(
        None, "embedding files whose vectors are the start", nargs="+", metavar="FILE", **CONTENTS_COMPARED)
    rename: tuple[str, ...] | None = shared.rename_flag("the concepts of --initializer_embeds")
    learnable_property: tuple[str, ...] = flag(
        ("object",), "what of the images is learned", nargs="+", choices=PROPERTIES, per_concept=True)
    num_vectors: tuple[int | str, ...] = flag(
        (1,), "embedding vectors of the concept; auto: one per token of the initializer",
        nargs="+", type=vector_count, metavar="N", per_concept=True)
    contrast_data_dir: tuple[str, ...] | None = flag(
        None, "folder of good images, away from which a word of --learnable_property negative is trained",
        nargs="+", metavar="DIR", per_concept=True, recorded_portably=True, **CONTENTS_COMPARED)
    repeats: int = flag(
        100, "times each image is seen in an epoch, unless its folder is named like 10_cat",
        type=positive_int, metavar="N", decides_result=False)


@group("prompts")
class PromptSettings:
    """The prompts of the training images."""

    template_file: tuple[str, ...] | None = flag(
        None, "your own prompt templates, one a line, {} where the placeholder token goes",
        nargs="+", metavar="FILE", per_concept=True, **CONTENTS_COMPARED)
    no_captions: bool = flag(
        False, "ignore captions: text files beside the images, metadata.jsonl, names of folders", decides_result=False)
    append_file_name_to_text: bool = flag(
        False, "put the words of the file name after the prompt", decides_result=False)
    file_name_split_char: str = flag(
        "_", "what separates words in file names", metavar="C", decides_result=False)
    caption_prefix: str | None = flag(
        None, "text before each caption, with a blank between them; {} is the placeholder token", metavar="TEXT",
        decides_result=False)
    caption_suffix: str | None = flag(
        None, "text behind each caption, with a blank between them", metavar="TEXT", decides_result=False)
    shuffle_caption: bool = flag(False, "put the tags of a caption, between its commas, in random order")
    keep_tokens: int = flag(
        0, "tags at the beginning of a caption that are neither moved nor left out", type=natural, metavar="N")
    caption_dropout_rate: float = flag(
        0.0, "probability that a caption is left out, all but the placeholder token", type=share, metavar="P")
    caption_tag_dropout_rate: float = flag(
        0.0, "probability that a tag is left out; one with the placeholder token always stays",
        type=share, metavar="P")
    enable_wildcard: bool = flag(
        False, "read alternatives in braces in captions and template files, one drawn for each sample")
    template_share: float = flag(
        0.0, "share of the samples of images with captions that get a prompt template in place of the caption",
        type=share, metavar="P")
    num_blank_prompts: int = flag(
        0, "times that the placeholder token alone is among the prompt templates",
        type=count(0, 10_000), metavar="N", decides_result=False)
    num_a_prompts: int = flag(
        0, "times that 'a' and the placeholder token are among the prompt templates",
        type=count(0, 10_000), metavar="N", decides_result=False)
    vector_shuffle: bool = flag(False, "put a concept's vectors in random order in every sample")
    token_dropout: float = flag(
        0.0, "probability that a vector is left out of a sample; one always stays",
        type=number(float, 0.0, 0.99), metavar="P")
    progressive_vectors: int = flag(
        0, "bring a concept's vectors in one by one over so many steps; without a number: half of the run",
        type=natural, nargs="?", const=HALF_OF_THE_RUN, metavar="STEPS")


@group("images")
class ImageSettings:
    """How the images are resized, and which parts of them are learned."""

    resolution: int | None = flag(
        None, "side of the training images; unset: the model's own", type=side, metavar="PIXELS", decides_result=False)
    height: int | None = flag(
        None, "height, where it is not --resolution",
        type=side, metavar="PIXELS", decides_result=False, is_reused=True)
    width: int | None = flag(
        None, "width, where it is not --resolution",
        type=side, metavar="PIXELS", decides_result=False, is_reused=True)
    resize_mode: str = flag(
        "squash", "how images of another shape are brought to the model's; bucket: to shapes near their own",
        choices=RESIZE_MODES, is_reused=True)
    tile_rows: int = flag(
        2, "rows of parts that --resize_mode tiles cuts an image into, fewer where it is small",
        type=count(1, 16), metavar="N", is_reused=True)
    center_crop: bool = flag(False, "the same as --resize_mode center_crop", decides_result=False, is_reused=True)
    interpolation: str = flag("bilinear", "how images are resized", choices=INTERPOLATIONS, is_reused=True)
    check_images: str = flag(
        "no", "look for duplicates, blur, odd ones and more among the images, and show them in images.png; refuse: end "
        "the run where something is found", nargs="?", const="tell", choices=IMAGE_CHECKS, decides_result=False)
    flip_p: float = flag(
        0.5, "share of mirrored images; 0 for text, faces, logos and whatever has a left and a right",
        type=share, metavar="P")
    brightness_jitter: float = flag(0.0, "largest change of the brightness, as a share", type=share, metavar="X")
    contrast_jitter: float = flag(0.0, "largest change of the contrast, as a share", type=share, metavar="X")
    saturation_jitter: float = flag(0.0, "largest change of the saturation, as a share", type=share, metavar="X")
    hue_jitter: float = flag(
        0.0, "largest turn of the hues, as a share of the colour circle", type=number(float, 0.0, 0.5), metavar="X")
    rotation: float = flag(
        0.0, "largest angle by which images are turned, to either side", type=number(float, 0.0, 180.0),
        metavar="DEGREES")
    augmented_variants: int | None = flag(
        None, "variants of each image that are encoded and drawn from, the image itself among them; unset: 8 where "
        "colours or angles change, and none where only --resize_mode random_crop does",
        type=count(2, 1000), metavar="K")
    mask_dir: tuple[str, ...] | None = flag(
        None, "folder of masks named like the images; only what is white in them is learned",
        nargs="+", metavar="DIR", recorded_portably=True, **CONTENTS_COMPARED)
    mask_from: str | None = flag(
        None, "make the masks of the images themselves: of their transparency, of a plain background, or by a "
        "segmentation model (pip install rembg onnxruntime)", choices=MASK_SOURCES, decides_result=False)
    mask_model: str | None = flag(
        None, "the ONNX file of that model; unset: the one in rembg's own folder", metavar="FILE", **CONTENTS_COMPARED)
    alpha_mask: bool = flag(False, "the same as --mask_from alpha", decides_result=False)
    unmasked_weight: float = flag(0.0, "weight of what a mask leaves out", type=share, metavar="X")
    dataloader_num_workers: int = flag(
        0, "threads that read the images; 0: one after another", type=count(0, 256), metavar="N", **ONE_MACHINE)
    vae_batch_size: int = flag(
        1, "images that the VAE encodes together, before training", type=at_once, metavar="N", decides_result=False)
    cache_latents_dir: str | None = flag(
        None, "folder that keeps what the VAE encoded, so that the next run need not encode it again",
        metavar="DIR", at_address=LOCAL, **CONTENTS_COMPARED)

    @property
    def is_augmented(self) -> bool:
        """Whether colours or angles of the images change."""
        return any((self.brightness_jitter, self.contrast_jitter, self.saturation_jitter, self.hue_jitter,
                    self.rotation))

    @property
    def variants(self) -> int:
        """How many variants of each image are encoded; 1: only the image itself."""
        return self.augmented_variants or (DEFAULT_VARIANTS if self.is_augmented else 1)

    @property
    def encodes_live(self) -> bool:
        """Whether samples are cropped and encoded at every step."""
        return self.resize_mode == "random_crop" and self.variants == 1


# fmt: on
