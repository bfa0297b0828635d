"""The settings of `infer.py` and `score.py`, in groups of flags."""

from dataclasses import dataclass

from textual_inversion.formats.learned_embedding import composed
from textual_inversion.settings import cluster, shared
from textual_inversion.settings.bounds import at_once, lora, number, positive_int, seed_number, share, strength
from textual_inversion.settings.choices import LANGUAGES, PROPERTIES, SCHEDULERS, TRACKERS
from textual_inversion.settings.flag import LOCAL, RUN, TREE, WRITTEN, WRITTEN_FILE, flag, group
from textual_inversion.settings.ranges import Range, image_sizes, ranged
from textual_inversion.settings.shared import CONTENTS_COMPARED, ONE_MACHINE, ConfigFile
from textual_inversion.system.paths import from_root

DEMO_EMBEDDING = "demo/learned_embeds.pdparams"
_GUIDANCE = "classifier-free guidance; up to 1: none, twice as fast; unset: 7.5, for the demo its own"
_STEPS = "denoising steps, 1 to 1000; unset: 50, for the demo its own"
_SCHEDULER = "how noise is removed; unset: the base model's own"
_BATCH = "images made together; does not change them"
_RANGES = "; several, or START:STOP:COUNT: a grid"

_SIDES = ranged(shared.pixels, "256:512:3")

# One or two lines per flag.
# fmt: off


@group("base model")
class BaseModelSettings:
    """Which base model is used, and where it comes from."""

    pretrained_model_name_or_path: str | None = flag(
        None, "folder or repository id; unset: the model that the embedding was learned on, else the demo's",
        metavar="MODEL")
    tokenizer_name: str | None = flag(None, "a tokenizer other than the base model's", metavar="MODEL")
    revision: str | None = shared.revision_flag()
    variant: str | None = shared.variant_flag()
    cache_dir: str | None = shared.cache_dir_flag()
    vae: str | None = shared.vae_flag()
    clip_skip: int | None = shared.clip_skip_flag("as the embedding was learned")
    max_token_length: int | None = shared.max_token_length_flag("prompts", "as the embedding was learned")
    trust_record: bool = flag(
        False, "ask the hubs for the base model, tokenizer and VAE that the record beside an embedding names")
    hub_token: str | None = flag(
        None, "access token of Hugging Face for gated models; unset: the one you logged in with", metavar="TOKEN",
        is_secret=True)


@group("machine")
class MachineSettings:
    """The device and precision that images are computed with."""

    device: str | None = shared.device_flag()
    num_threads: int | None = shared.num_threads_flag("CPU threads; unset: all cores")
    mixed_precision: str = shared.mixed_precision_flag()
    allow_tf32: bool = shared.allow_tf32_flag()


# ------------------------------------------------------------------------------------------------------------ infer


@group("what")
class ImagesToMake:
    """Which images are made."""

    embeds: tuple[str, ...] = flag(
        (from_root(DEMO_EMBEDDING),),
        "embedding files of this and other programs, or repository ids; a prompt may hold several placeholder tokens",
        nargs="+", metavar="FILE")
    rename: tuple[str, ...] | None = shared.rename_flag("their concepts")
    compare: tuple[str, ...] | None = flag(
        None, "embedding files of the same placeholder tokens, or folders of runs for all their steps: a column each",
        nargs="+", metavar="FILE")
    prompt: tuple[str, ...] | None = flag(
        None, "may hold alternatives in braces; unset: a handful that show the concepts off", nargs="+",
        metavar="PROMPT")
    prompts_file: str | None = flag(
        None, "a prompt per line, with options of its own", metavar="FILE")
    negative_prompt: tuple[str, ...] = flag(
        ("",), "what the images should not show; several: a grid", nargs="+", metavar="PROMPT")
    prompt_weights: bool = shared.prompt_weights_flag("prompts")
    num_images: int | None = flag(
        None, "images per prompt and seed; unset: 4, for the demo its own", type=at_once, metavar="N")
    seed: tuple[int | Range, ...] | None = flag(
        None, "of each prompt's first image, the next ones count up; unset: one is drawn and shown", nargs="+",
        type=ranged(number(int, 0, 2**64 - 1), "0:90:10"), metavar="N")
    height: tuple[int | Range, ...] | None = flag(
        None, "a multiple of 8; unset: the model's own, or that of --image" + _RANGES, nargs="+", type=_SIDES,
        metavar="PIXELS")
    width: tuple[int | Range, ...] | None = flag(
        None, "a multiple of 8; unset: the model's own, or that of --image" + _RANGES, nargs="+", type=_SIDES,
        metavar="PIXELS")
    size: tuple[tuple[int, int] | Range, ...] | None = flag(
        None, "width and height together, or the side of a square" + _RANGES, nargs="+",
        type=image_sizes(shared.pixels), metavar="WxH")
    random_samples: int | None = flag(
        None, "draw so many images at random from the grid, decided by --seed, instead of all of it",
        type=positive_int, metavar="N")
    yes: bool = flag(False, "draw a grid of more than 100,000 images")
    safety_checker: bool = flag(False, "black out what the base model's safety checker objects to")
    lora: tuple[str, ...] | None = flag(
        None, "LoRA files to add to the base model, each with a scale; without one: 1",
        nargs="+", type=lora, metavar="FILE[:SCALE]")


@group("from an image")
class FromImage:
    """What images are made from, beside noise."""

    image: str | None = flag(
        None, "an image to start from, or a folder of such; unset: noise alone", metavar="FILE")
    strength: tuple[float, ...] | None = flag(
        None, "share of the denoising steps that is taken from an image on, above 0 to 1: how much becomes new; "
        "unset: 0.8", nargs="+", type=strength, metavar="X")
    mask_image: str | None = flag(
        None, "an image whose white parts are drawn anew; what is black in it stays bit for bit; or a folder of such "
        "with the images' names", metavar="FILE")


@group("sampling")
class InferSampling:
    """How images are sampled. All but the batch size may have several values."""

    guidance_scale: tuple[float | Range, ...] | None = flag(
        None, _GUIDANCE + _RANGES, nargs="+", type=ranged(shared.guidance, "1:9:5"), metavar="X")
    num_inference_steps: tuple[int | Range, ...] | None = flag(
        None, _STEPS + _RANGES, nargs="+", type=ranged(shared.inference_steps, "10:50:5"), metavar="N")
    scheduler: tuple[str, ...] | None = flag(
        None, _SCHEDULER + "; several: a grid", nargs="+", choices=tuple(SCHEDULERS))
    eta: tuple[float | Range, ...] = flag(
        (0.0,), "share of noise that DDIM adds in each step; without effect on other schedulers" + _RANGES, nargs="+",
        type=ranged(share, "0:1:5"), metavar="X")
    batch_size: int = flag(4, _BATCH, type=at_once, metavar="N")


@group("output")
class InferOutput:
    """Where the images go."""

    output_dir: str = flag("outputs", "earlier images in it stay; numbers count up", metavar="DIR", at_address=WRITTEN)
    num_cols: int | None = flag(
        None, "columns of the contact sheet; unset: a row per prompt", type=at_once, metavar="N")
    heat_maps: bool = flag(
        False, "show where each word of a prompt acts, by cross-attention: a sheet for each image in heat_maps/")
    merge: tuple[str, ...] | None = flag(
        None, "draw nothing; copy what processes drew of one grid from these folders into --output_dir",
        nargs="+", metavar="DIR", at_address=RUN)
    report_to: tuple[str, ...] = flag(
        ("none",), "where the images are logged, each under its prompt and settings, also several", nargs="+",
        choices=TRACKERS)
    logging_dir: str = flag(
        "logs", "folder of the logs, inside --output_dir", metavar="DIR",
        at_address=LOCAL, is_inside_output=True, **CONTENTS_COMPARED)


@group("scoring")
class ColumnScoring:
    """How the columns of a comparison are scored."""

    clip_model: str | None = flag(
        None, "folder or repository id of a CLIP model that scores the columns of --compare; unset: the base model's "
        "own clip/, if it has one", metavar="MODEL", at_address=TREE)


@group("cluster")
class InferCluster:
    """Where images are drawn, if not in this process."""

    address: str | None = cluster.address_flag("this process draws")
    processes: int | None = flag(
        None, "processes of the cluster of --address that share the images; unset: as many as it has room for",
        type=positive_int, metavar="N", **ONE_MACHINE)


@dataclass(frozen=True)
class InferConfig:
    """All settings of `infer.py`."""

    file: ConfigFile = ConfigFile()
    images: ImagesToMake = ImagesToMake()
    start: FromImage = FromImage()
    base_model: BaseModelSettings = BaseModelSettings()
    sampling: InferSampling = InferSampling()
    scoring: ColumnScoring = ColumnScoring()
    output: InferOutput = InferOutput()
    machine: MachineSettings = MachineSettings()
    cluster: InferCluster = InferCluster()


# ------------------------------------------------------------------------------------------------------------ score


@group("concept")
class ScoredConcept:
    """Which concept is scored, and what it was learned from."""

    embeds: tuple[str, ...] = flag(
        (from_root(DEMO_EMBEDDING),),
        "an embedding file, or a repository id; or the two files of a concept of Stable Diffusion XL",
        nargs="+", metavar="FILE")
    rename: tuple[str, ...] | None = shared.rename_flag("its concepts")
    placeholder_token: str | None = flag(
        None, "which of the file's placeholder tokens; unset: the only one", type=composed, metavar="WORD")
    train_data_dir: str | None = flag(
        None, "the images it was learned from; unset: as recorded beside the file", metavar="DIR")
    learnable_property: str | None = flag(
        None, "unset: as recorded beside the file, else object", choices=PROPERTIES)
    initializer_token: str | None = flag(
        None, "word of the baseline; unset: as recorded, else toy or style", metavar="WORD")
    language: str | None = flag(
        None, "language of the prompts; unset: as recorded beside the file, else en", choices=LANGUAGES)


@group("measuring")
class Measuring:
    """How the score is measured."""

    clip_model: str | None = flag(
        None, "folder or repository id of a CLIP model; unset: the base model's own clip/", metavar="MODEL",
        at_address=TREE)
    num_images: int = flag(
        64, "images of the plain prompt, and of all edit prompts together", type=at_once, metavar="N")
    images_per_edit_prompt: int | None = flag(
        None, "images of each edit prompt; 64 in the paper; unset: equal shares of --num_images",
        type=at_once, metavar="N")
    seed: int = flag(0, "of the first image of each prompt", type=seed_number, metavar="N")
    mask_dir: str | None = flag(
        None, "masks of the training images, white is the thing: measures how much of the word's attention lies "
        "beside it; unset: none, but for the demo's own images", metavar="DIR")
    curve: str | None = flag(
        None, "measure mixes from start to learned vectors and the saved steps instead, and write curve.json and "
        "curve.svg into this folder, with the point that is the best bargain", metavar="DIR", at_address=WRITTEN)
    leave_one_out: bool = flag(
        False, "train the word again without each training image instead, and say which image hurts")
    pairs: bool = flag(
        False, "draw each two of several words in one prompt instead, and say which survive together")


@group("sampling")
class ScoreSampling:
    """How images are sampled."""

    guidance_scale: float | None = flag(None, _GUIDANCE, type=shared.guidance, metavar="X")
    num_inference_steps: int | None = flag(None, _STEPS, type=shared.inference_steps, metavar="N")
    scheduler: str | None = flag(None, _SCHEDULER, choices=tuple(SCHEDULERS))
    batch_size: int = flag(8, _BATCH, type=at_once, metavar="N")


@group("output")
class ScoreOutput:
    """Where the figures go."""

    output: str | None = flag(None, "write the figures here, as JSON", metavar="FILE", at_address=WRITTEN_FILE)


@dataclass(frozen=True)
class ScoreConfig:
    """All settings of `score.py`."""

    file: ConfigFile = ConfigFile()
    concept: ScoredConcept = ScoredConcept()
    base_model: BaseModelSettings = BaseModelSettings()
    measuring: Measuring = Measuring()
    sampling: ScoreSampling = ScoreSampling()
    output: ScoreOutput = ScoreOutput()
    machine: MachineSettings = MachineSettings()


# fmt: on
