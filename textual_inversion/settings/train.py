"""The settings of `train_textual_inversion.py`, in groups of flags, with the defaults for real base models.

Defaults are those of the ppdiffusers documentation, or those of PaddleMIX's example where it gives none. They make
sense for real models only. With the demo's base model, `demo/defaults.yaml` replaces some of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from textual_inversion.formats.learned_embedding import composed
from textual_inversion.formats.targets import TARGETS
from textual_inversion.settings import shared
from textual_inversion.settings.bounds import (
    at_once,
    count,
    natural,
    not_negative,
    number,
    positive,
    positive_int,
    seed_number,
    share,
    side,
    vector_count,
)
from textual_inversion.settings.choices import (
    HALF_OF_THE_RUN,
    HUBS,
    HUGGING_FACE,
    INTERPOLATIONS,
    LANGUAGES,
    LOSS_TYPES,
    NO_HUB,
    OPTIMIZERS,
    PROPERTIES,
    RESIZE_MODES,
    SCHEDULERS,
    SCHEDULES,
    TIMESTEP_SAMPLINGS,
    TRACKERS,
)
from textual_inversion.settings.concept import Concept
from textual_inversion.settings.flag import all_flags, flag, group
from textual_inversion.settings.shared import CONTENTS_COMPARED, ONE_MACHINE, ONLY_WATCHED, ConfigFile
from textual_inversion.settings.validation_prompt import ValidationPrompt
from textual_inversion.system.paths import from_root

_decay_rate = number(float, 0.0, 0.9999999)
# Flags of the upload: they do not change what is learned, may differ between processes, and are not repeated.
_UPLOAD = dict(decides_result=False, same_everywhere=False, repeatable=False)

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
        (from_root("cat_toy_images"),), "folder of training images",
        nargs="+", metavar="DIR", per_concept=True, recorded_portably=True, is_reused=True, **CONTENTS_COMPARED)
    placeholder_token: tuple[str, ...] = flag(
        ("<cat-toy>",), "what stands for the concept in prompts, one per concept",
        nargs="+", type=composed, metavar="WORD")
    initializer_token: tuple[str, ...] | None = flag(
        None, "a known word or phrase that the vectors start from; auto: the word nearest to the images; "
        "unset: random numbers, for the demo toy or style", nargs="+", metavar="WORD", per_concept=True)
    initializer_embeds: tuple[str, ...] | None = flag(
        None, "embedding files whose vectors are the start", nargs="+", metavar="FILE", **CONTENTS_COMPARED)
    rename: tuple[str, ...] | None = shared.rename_flag("the concepts of --initializer_embeds")
    learnable_property: tuple[str, ...] = flag(
        ("object",), "what of the images is learned", nargs="+", choices=PROPERTIES, per_concept=True)
    num_vectors: tuple[int | str, ...] = flag(
        (1,), "embedding vectors of the concept; auto: one per token of the initializer",
        nargs="+", type=vector_count, metavar="N", per_concept=True)
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
    center_crop: bool = flag(False, "the same as --resize_mode center_crop", decides_result=False, is_reused=True)
    interpolation: str = flag("bilinear", "how images are resized", choices=INTERPOLATIONS, is_reused=True)
    flip_p: float = flag(
        0.5, "share of mirrored images; 0 for text, faces, logos and whatever has a left and a right",
        type=share, metavar="P")
    mask_dir: tuple[str, ...] | None = flag(
        None, "folder of masks named like the images; only what is white in them is learned",
        nargs="+", metavar="DIR", recorded_portably=True, **CONTENTS_COMPARED)
    alpha_mask: bool = flag(False, "learn only what is opaque in the images", decides_result=False)
    unmasked_weight: float = flag(0.0, "weight of what a mask leaves out", type=share, metavar="X")
    dataloader_num_workers: int = flag(
        0, "threads that read the images; 0: one after another", type=count(0, 256), metavar="N", **ONE_MACHINE)
    vae_batch_size: int = flag(
        1, "images that the VAE encodes together, before training", type=at_once, metavar="N", decides_result=False)
    cache_latents_dir: str | None = flag(
        None, "folder that keeps what the VAE encoded, so that the next run need not encode it again",
        metavar="DIR", **CONTENTS_COMPARED)


@group("training")
class TrainingSettings:
    """Number of steps, batch size and learning rate."""

    max_train_steps: int = flag(5000, "optimizer steps", type=positive_int, metavar="N")
    num_train_epochs: int = flag(
        100, "epochs; decides the steps when --max_train_steps is not given",
        type=positive_int, metavar="N", decides_result=False, repeatable=False)
    train_batch_size: int = flag(
        16, "samples per process and micro-batch", type=at_once, metavar="N", decides_result=False)
    gradient_accumulation_steps: int = flag(
        1, "micro-batches per optimizer step", type=at_once, metavar="N", decides_result=False)
    learning_rate: float = flag(1e-4, "peak learning rate", type=positive, metavar="RATE")
    scale_lr: bool = flag(
        False, "multiply the learning rate by batch size x accumulation x processes", decides_result=False)
    lr_scheduler: str = flag("constant", "learning-rate schedule over optimizer steps", choices=SCHEDULES)
    lr_warmup_steps: int = flag(
        500, "optimizer steps of linear warm-up (all schedules but constant)", type=natural, metavar="N")
    lr_num_cycles: int = flag(1, "restarts of cosine_with_restarts", type=positive_int, metavar="N")
    lr_power: float = flag(1.0, "exponent of polynomial", type=positive, metavar="X")
    max_skipped_steps: int = flag(
        20, "skipped steps in a row after which the run stops; a step is skipped when its loss or gradient is not "
        "finite", type=positive_int, metavar="N")
    seed: int | None = flag(None, "decides every sample; unset: one is drawn and recorded", type=seed_number,
                            metavar="N")

    @property
    def warmup_steps(self) -> int:
        """Optimizer steps during which the learning rate rises; 0 for a constant schedule."""
        return 0 if self.lr_scheduler == "constant" else self.lr_warmup_steps


@group("objective")
class ObjectiveSettings:
    """What training minimises."""

    loss_type: str = flag("l2", "squared error, or one that outliers affect less", choices=LOSS_TYPES)
    huber_c: float = flag(
        0.1, "error from which huber and smooth_l1 turn from a square to a straight line", type=positive, metavar="X")
    snr_gamma: float | None = flag(
        None, "min-SNR weighting: nearly clean timesteps count less; 5 in its paper; unset: all count alike",
        type=positive, metavar="X")
    debiased_estimation_loss: bool = flag(False, "weighting by which noisy timesteps count more")
    noise_offset: float = flag(0.0, "weight of a noise shared by a whole channel", type=share, metavar="X")
    input_perturbation: float = flag(
        0.0, "weight of a noise that the U-Net sees and need not predict; 0.1 in its paper", type=share, metavar="X")
    min_timestep: int = flag(0, "first timestep that is trained on", type=natural, metavar="N")
    max_timestep: int | None = flag(
        None, "timestep before which training stops; unset: the end of the model's schedule",
        type=positive_int, metavar="N")
    timestep_sampling: str = flag(
        "uniform", "every timestep by itself, or the global batch's spread over equal parts of the schedule",
        choices=TIMESTEP_SAMPLINGS)
    antithetic_noise: bool = flag(
        False, "pairs of samples in the global batch get opposite noise, at the same timestep")


@group("optimizer")
class OptimizerSettings:
    """How the vectors follow their gradient."""

    optimizer: str = flag("adamw", "how the vectors follow their gradient", choices=OPTIMIZERS)
    adam_beta1: float = flag(0.9, "Adam's and AdamW's decay of the mean", type=_decay_rate, metavar="X")
    adam_beta2: float = flag(0.999, "Adam's and AdamW's decay of the variance", type=_decay_rate, metavar="X")
    adam_weight_decay: float = flag(
        0.02, "weight decay: pulls the new vectors, and nothing else, towards zero; 0 for adam and sgd unless given",
        type=number(float, 0.0, 1.0), metavar="X")
    adam_epsilon: float = flag(1e-8, "Adam's and AdamW's epsilon", type=positive, metavar="X")
    sgd_momentum: float = flag(0.9, "momentum of sgd", type=_decay_rate, metavar="X")
    max_grad_norm: float = flag(-1.0, "largest gradient norm; -1: no clipping", type=float, metavar="X")
    average_last_steps: int = flag(
        0, "the final vectors are the mean of those after the last N steps; 0: those after the last step",
        type=natural, metavar="N")


@group("regularizers")
class RegularizerSettings:
    """Terms that are added to the loss."""

    norm_reg_weight: float = flag(
        0.0, "weight of the vectors' distance in norm from the mean norm of the table's rows",
        type=not_negative, metavar="X")
    initial_reg_weight: float = flag(
        0.0, "weight of the vectors' squared distance from their initial values", type=not_negative, metavar="X")
    hidden_reg_weight: float = flag(
        0.0, "weight of the text encoder's distance from its output for the initializer",
        type=not_negative, metavar="X")


@group("validation")
class ValidationSettings:
    """What is measured, drawn and logged while training."""

    eval_steps: int = flag(
        100, "optimizer steps between losses on a fixed set; 0: never", type=natural, metavar="N", **ONLY_WATCHED)
    # It does not change what is learned, but losses on two different fixed sets do not belong in one curve.
    eval_samples: int = flag(16, "samples in the fixed set", type=at_once, metavar="N")
    validation_prompt: tuple[str, ...] | None = flag(
        None, "prompts of the validation images", nargs="+", metavar="PROMPT",
        decides_result=False, same_everywhere=False)
    validation_prompts_file: str | None = flag(
        None, "a text file of further prompts, one a line, each with options: --seed --guidance --steps --negative",
        metavar="FILE", decides_result=False, same_everywhere=False)
    prompt_weights: bool = shared.prompt_weights_flag("validation prompts", **ONLY_WATCHED)
    scheduler: str | None = flag(
        None, "how the noise of validation images and overview is removed; unset: the base model's own",
        choices=tuple(SCHEDULERS), **ONLY_WATCHED)
    validation_epochs: int = flag(
        50, "epochs between validation images", type=positive_int, metavar="N", **ONLY_WATCHED)
    validation_steps: int | None = flag(
        None, "optimizer steps between validation images; replaces --validation_epochs",
        type=positive_int, metavar="N", **ONLY_WATCHED)
    num_validation_images: int = flag(4, "images per prompt", type=at_once, metavar="N", **ONLY_WATCHED)
    keep_best: bool = flag(
        False, "keep the best step so far, by CLIP similarity of the validation images, else by the loss on the "
        "fixed set", **ONLY_WATCHED)
    clip_model: str | None = flag(
        None, "folder or repository id of the CLIP model for --keep_best and --initializer_token auto; "
        "unset: the base model's own clip/ folder", metavar="MODEL", **CONTENTS_COMPARED)
    guidance_scale: float = flag(
        shared.GUIDANCE_SCALE, "classifier-free guidance of validation images",
        type=shared.guidance, metavar="X", **ONLY_WATCHED)
    num_inference_steps: int = flag(
        shared.NUM_INFERENCE_STEPS, "denoising steps of validation images",
        type=shared.inference_steps, metavar="N", **ONLY_WATCHED)
    overview: bool = flag(
        False, "make overview.png (training images, before, after) and, for the demo, the scores", **ONLY_WATCHED)
    overview_concepts: int = flag(
        2, "concepts that the overview shows and the demo scores, the first ones", type=at_once, metavar="N",
        **ONLY_WATCHED)
    overview_images: int = flag(
        6, "prompts that the overview shows, each before and after", type=at_once, metavar="N", **ONLY_WATCHED)
    report_to: str = flag("visualdl", "where figures are logged", choices=TRACKERS, **ONLY_WATCHED)
    logging_dir: str = flag(
        "logs", "folder of the logs, inside --output_dir", metavar="DIR", is_inside_output=True, **CONTENTS_COMPARED)


@group("saving")
class SavingSettings:
    """What is written, and where."""

    output_dir: str = flag(
        "text-inversion-model", "where everything is written", metavar="DIR", repeatable=False, **CONTENTS_COMPARED)
    save_steps: int = flag(
        500, "optimizer steps between saved embeddings", type=positive_int, metavar="N", **ONLY_WATCHED)
    checkpointing_steps: int | None = flag(
        None, "optimizer steps between checkpoints, from which a run can resume; unset: as --save_steps",
        type=positive_int, metavar="N", **ONLY_WATCHED)
    checkpoints_total_limit: int | None = flag(
        None, "newest checkpoints to keep; unset: all", type=positive_int, metavar="N", **ONLY_WATCHED)
    resume_from_checkpoint: str | None = flag(
        None, "resume from a checkpoint; latest: the newest in --output_dir, or from the beginning where there is none",
        metavar="DIR", repeatable=False, **ONLY_WATCHED)
    allow_changed_settings: bool = flag(
        False, "resume from the checkpoint although settings have changed that decide the run",
        repeatable=False, **ONLY_WATCHED)
    only_save_embeds: bool = flag(False, "do not save the whole pipeline at the end", **ONLY_WATCHED)
    export: tuple[str, ...] | None = flag(
        None, "formats of other programs in which the embeddings are written at the end, too", nargs="+",
        choices=tuple(TARGETS), metavar="FORMAT", **ONLY_WATCHED)


@group("machine")
class MachineSettings:
    """The device, precision and memory of a run."""

    device: str | None = shared.device_flag()
    num_threads: int | None = shared.num_threads_flag("CPU threads of this process; unset: cores / processes")
    mixed_precision: str = shared.mixed_precision_flag()
    allow_tf32: bool = shared.allow_tf32_flag()
    gradient_checkpointing: bool = flag(
        False, "recompute activations: less memory, slower steps", **ONE_MACHINE)
    enable_xformers_memory_efficient_attention: bool = flag(
        False, "memory-efficient attention; needs a GPU", **ONE_MACHINE)
    compile: bool = flag(False, "run the U-Net's part of a step as one compiled program", **ONE_MACHINE)
    low_memory: bool = flag(
        False, "choose what saves memory: micro-batches of one, checkpointing, attention and VAE in parts",
        **ONE_MACHINE)


@group("hub")
class HubSettings:
    """The upload to a hub, and the access token of the Hugging Face hub."""

    push_to_hub: bool = flag(
        False, "upload embeddings, records and images to the Hugging Face hub: --push_to huggingface", **_UPLOAD)
    push_to: str = flag(
        NO_HUB, "the hub to upload embeddings, records and images to", choices=HUBS, **_UPLOAD)
    hub_whole_pipeline: bool = flag(False, "upload the saved pipeline too, which is gigabytes", **_UPLOAD)
    hub_token: str | None = flag(
        None, "access token of Hugging Face, for uploads and gated models; unset: the one you logged in with",
        metavar="TOKEN", is_secret=True, **_UPLOAD)
    hub_model_id: str | None = flag(
        None, "repository id; unset: the output folder's name, on AI Studio it is needed", metavar="NAME", **_UPLOAD)

    @property
    def uploads_to(self) -> str | None:
        """The hub that a run is uploaded to, one of `choices.HUBS`; None: none."""
        if self.push_to_hub:
            return HUGGING_FACE
        return None if self.push_to == NO_HUB else self.push_to


# fmt: on


@dataclass(frozen=True)
class TrainConfig:
    """All settings of a training run.

    Attributes:
        concepts: the settings of each concept, in the order of `--placeholder_token`.
        validation_prompts: those of `--validation_prompt`, then those of `--validation_prompts_file`.
        given: names of the flags that the user gave, on the command line or in a configuration file.
        demo: whether the base model is the demo's.
        demo_defaults: name -> value of the flags that `demo/defaults.yaml` has set.
        notes: what the run is to say of its configuration file, in lines.
    """

    file: ConfigFile = ConfigFile()
    base_model: BaseModelSettings = BaseModelSettings()
    concept: ConceptSettings = ConceptSettings()
    prompts: PromptSettings = PromptSettings()
    images: ImageSettings = ImageSettings()
    training: TrainingSettings = TrainingSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    regularizers: RegularizerSettings = RegularizerSettings()
    validation: ValidationSettings = ValidationSettings()
    saving: SavingSettings = SavingSettings()
    machine: MachineSettings = MachineSettings()
    hub: HubSettings = HubSettings()
    concepts: tuple[Concept, ...] = ()
    validation_prompts: tuple[ValidationPrompt, ...] = ()
    given: frozenset[str] = frozenset()
    demo: bool = False
    demo_defaults: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


# The flags whose values `infer.py` and `score.py` take from the run.json beside an embedding.
REUSED = {name: one for name, one in all_flags(TrainConfig).items() if one.is_reused}
