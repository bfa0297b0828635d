"""Settings of a training run that say what surrounds it: validation, saving, machine, hub."""

from textual_inversion.formats.targets import TARGETS
from textual_inversion.settings import shared
from textual_inversion.settings.bounds import (
    at_once,
    count,
    natural,
    positive_int,
)
from textual_inversion.settings.choices import (
    HUBS,
    HUGGING_FACE,
    NO_HUB,
    PRESETS,
    SCHEDULERS,
    TRACKERS,
)
from textual_inversion.settings.flag import LOCAL, TREE, WRITTEN, flag, group
from textual_inversion.settings.shared import CONTENTS_COMPARED, ONE_MACHINE, ONLY_WATCHED, ConfigFile

# Flags of the upload: they do not change what is learned, may differ between processes, and are not repeated.
_UPLOAD = dict(decides_result=False, same_everywhere=False, repeatable=False)

# One or two lines per flag.
# fmt: off


@group("configuration")
class TrainConfigFile(ConfigFile):
    """Settings from files: the user's, and those that come with the program."""

    # What it sets is compared, recorded and repeated flag by flag.
    preset: tuple[str, ...] | None = flag(
        None, "settings for a purpose or a card, several where they set different flags; --config and the command line "
        "win over them", nargs="+", choices=PRESETS, repeatable=False, **CONTENTS_COMPARED)


@group("validation")
class ValidationSettings:
    """What is measured, drawn and logged while training."""

    eval_steps: int = flag(
        100, "optimizer steps between losses on a fixed set; 0: never", type=natural, metavar="N", **ONLY_WATCHED)
    # It does not change what is learned, but losses on two different fixed sets do not belong in one curve.
    eval_samples: int = flag(16, "samples in the fixed set", type=at_once, metavar="N")
    validation_data_dir: tuple[str, ...] | None = flag(
        None, "folder of held-out images, one per concept; the fixed set is of them, and not of training images",
        nargs="+", metavar="DIR", recorded_portably=True, **CONTENTS_COMPARED)
    validation_mask_dir: tuple[str, ...] | None = flag(
        None, "folder of the held-out images' masks, as --mask_dir",
        nargs="+", metavar="DIR", recorded_portably=True, **CONTENTS_COMPARED)
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
        "unset: the base model's own clip/ folder", metavar="MODEL", at_address=TREE, **CONTENTS_COMPARED)
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
    report_to: tuple[str, ...] = flag(
        ("visualdl",), "where figures, images and settings are logged, also several", nargs="+", choices=TRACKERS,
        **ONLY_WATCHED)
    logging_dir: str = flag(
        "logs", "folder of the logs, inside --output_dir", metavar="DIR",
        at_address=LOCAL, is_inside_output=True, **CONTENTS_COMPARED)


@group("saving")
class SavingSettings:
    """What is written, and where."""

    output_dir: str = flag(
        "text-inversion-model", "where everything is written", metavar="DIR",
        at_address=WRITTEN, repeatable=False, **CONTENTS_COMPARED)
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
    max_restarts: int = flag(
        0, "times that a run which was killed or has crashed is started again, from its newest checkpoint",
        type=count(0, 1000), metavar="N", repeatable=False, **ONLY_WATCHED)
    plan: bool = flag(
        False, "say what the run will take (seconds, memory, disk) and what it saves when, and end; nothing is written",
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
