"""Checks of `train_textual_inversion.py` that concern several flags, made before anything slow begins."""

import math
import re
from collections.abc import Container
from pathlib import Path

from textual_inversion.cli.output_checks import check_parents
from textual_inversion.hub.hugging_face import is_repository_id
from textual_inversion.settings.bounds import LONGEST_CHUNK
from textual_inversion.settings.choices import (
    AI_STUDIO,
    ALPHA,
    AUTO,
    BACKGROUND,
    FLAGS_OF_OPTIMIZERS,
    HUGGING_FACE,
    LATEST,
    NEGATIVE,
    NO_CHECKS,
)
from textual_inversion.settings.rates import stages
from textual_inversion.settings.train import TrainConfig
from textual_inversion.settings.train_data import ConceptSettings, ImageSettings
from textual_inversion.settings.train_method import ObjectiveSettings, OptimizerSettings, TrainingSettings
from textual_inversion.settings.train_run import HubSettings, MachineSettings, SavingSettings, ValidationSettings
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.paths import DEMO_MODEL, is_possible_path
from textual_inversion.system.process_share import share_of_process
from textual_inversion.system.reporters import wanted

_MOST_LOSSES = 300_000  # of the fixed set, that a checkpoint holds as text


def check_effects(config: TrainConfig) -> None:
    """Refuse flags that contradict each other, or have no effect without another.

    Raises:
        SettingsError: names the flags, and the way out.
    """
    _check_crop(config.images, config.given)
    _check_masks(config.images, config.concept, config.given)
    _check_latents(config.images, config.given)
    _check_objective(config.objective, config.given)
    _check_clipping(config.optimizer.max_grad_norm)
    _check_contrast(config.concept, config.given)
    _check_effect("rename", config.given, config.concept.initializer_embeds is not None, "--initializer_embeds")
    varies_tags = config.prompts.shuffle_caption or config.prompts.caption_tag_dropout_rate
    _check_effect("keep_tokens", config.given, varies_tags, "--shuffle_caption or --caption_tag_dropout_rate")
    _check_optimizer(config.optimizer, config.given)
    _check_rates(config.training, config.given)
    _check_machine(config.machine)
    _check_effect("patience", config.given, config.training.stop_when_settled, "--stop_when_settled")


def check_together(config: TrainConfig) -> None:
    """Refuse settings that contradict each other or have no effect, once all are filled in.

    Raises:
        SettingsError: names the flags, and the way out.
    """
    validation, saving, hub = config.validation, config.saving, config.hub
    logging_dir = validation.logging_dir if wanted(validation.report_to) else None
    _check_output_folder(saving.output_dir, config.base_model.pretrained_model_name_or_path, logging_dir)
    _check_held_out(validation, config.images, config.concept)
    _check_output_is_no_data(saving.output_dir, config.concept.train_data_dir, "--train_data_dir")
    _check_output_is_no_data(saving.output_dir, config.concept.contrast_data_dir or (), "--contrast_data_dir")
    _check_hub(hub, saving, config.given)
    if config.regularizers.hidden_reg_weight and config.concept.initializer_token is None:
        raise SettingsError("--hidden_reg_weight pulls towards --initializer_token; give one, or leave the weight out")
    _check_other_vae(config.base_model.vae, saving.output_dir)
    if config.regularizers.hidden_reg_weight and (config.base_model.max_token_length or 0) > LONGEST_CHUNK:
        raise SettingsError(
            f"--hidden_reg_weight compares prompts at their end, and --max_token_length "
            f"{config.base_model.max_token_length} gives them several; leave one of the two out"
        )
    for flag in ("validation_epochs", "validation_steps"):
        if flag in config.given and not config.validation_prompts:
            raise SettingsError(f"--{flag} has no effect without --validation_prompt; add a prompt")
    for flag in ("overview_concepts", "overview_images"):
        _check_effect(flag, config.given, validation.overview, "--overview")
    _check_settling(config.training, validation, config.optimizer)
    _check_keep_best(validation, has_prompts=bool(config.validation_prompts))
    looks = config.images.check_images != NO_CHECKS
    _check_clip_model(validation, config.concept, looks=looks, has_prompts=bool(config.validation_prompts))
    _check_restarts(saving.max_restarts)
    _check_resume(saving, config.file.config, config.given)


def check_precision(mixed_precision: str, device: str | None) -> None:
    """Refuse half precision with `--device cpu`; raises SettingsError."""
    if mixed_precision != "no" and device == "cpu":
        raise SettingsError(
            f"--mixed_precision {mixed_precision} cannot be combined with --device cpu, which has no kernels for half "
            "precision; leave one of the two out"
        )


def _check_effect(name: str, given: Container[str], has_effect: object, condition: str) -> None:
    if name in given and not has_effect:
        raise SettingsError(f"--{name} has no effect without {condition}; add it, or leave --{name} out")


def _check_crop(images: ImageSettings, given: Container[str]) -> None:
    both = "resize_mode" in given and "center_crop" in given
    if images.center_crop and (both or images.resize_mode not in ("squash", "center_crop")):
        raise SettingsError(
            f"--center_crop and --resize_mode {images.resize_mode} contradict each other; give one of them"
        )


def _check_contrast(concept: ConceptSettings, given: Container[str]) -> None:
    """Good images are for words of what is not wanted, and are other images than the bad ones."""
    _check_effect("contrast_weight", given, concept.contrast_data_dir, "--contrast_data_dir")
    if concept.contrast_data_dir is None:
        return
    if others := sorted({kind for kind in concept.learnable_property if kind != NEGATIVE}):
        raise SettingsError(
            f"--contrast_data_dir is for words of what is not wanted, and --learnable_property says "
            f"{', '.join(others)}; give --learnable_property {NEGATIVE}, or leave --contrast_data_dir out"
        )
    for bad, good in zip(concept.train_data_dir, concept.contrast_data_dir, strict=True):
        if Path(bad).resolve() == Path(good).resolve():
            raise SettingsError(
                f"--train_data_dir and --contrast_data_dir are the same folder, {bad}; the first holds the bad images, "
                "the second the good ones"
            )


def _check_latents(images: ImageSettings, given: Container[str]) -> None:
    for name in ("vae_batch_size", "cache_latents_dir"):
        if name in given and images.encodes_live:
            raise SettingsError(
                f"--{name} has no effect with --resize_mode random_crop, whose crops are encoded at every step; leave "
                "one of the two out, or add --augmented_variants"
            )
    varies = images.is_augmented or images.resize_mode == "random_crop"
    _check_effect("augmented_variants", given, varies,
                  "--rotation, --brightness_jitter or the like, or --resize_mode random_crop")  # fmt: skip
    _check_effect("tile_rows", given, images.resize_mode == "tiles", "--resize_mode tiles")


def _check_masks(images: ImageSettings, concept: ConceptSettings, given: Container[str]) -> None:
    own = f"--mask_from {images.mask_from}" if images.mask_from else "--alpha_mask" if images.alpha_mask else ""
    if images.mask_dir and own:
        raise SettingsError(f"--mask_dir and {own} are two sources of masks; give one of them")
    if images.alpha_mask and images.mask_from not in (None, ALPHA):
        raise SettingsError(f"--alpha_mask means --mask_from {ALPHA} and contradicts {own}; give one of them")
    _check_effect("mask_model", given, images.mask_from == BACKGROUND, f"--mask_from {BACKGROUND}")
    if images.mask_dir and len(images.mask_dir) != len(concept.placeholder_token):
        raise SettingsError(
            f"--mask_dir has {len(images.mask_dir)} values and --placeholder_token {len(concept.placeholder_token)}; "
            "give one per concept in the same order"
        )
    _check_effect("unmasked_weight", given, images.mask_dir or own, "--mask_dir or --mask_from")


def _check_objective(objective: ObjectiveSettings, given: Container[str]) -> None:
    if objective.snr_gamma is not None and objective.debiased_estimation_loss:
        raise SettingsError("--snr_gamma and --debiased_estimation_loss are two weightings; give one of them")
    if objective.max_timestep is not None and objective.max_timestep <= objective.min_timestep:
        raise SettingsError(
            f"--max_timestep {objective.max_timestep} must be above --min_timestep {objective.min_timestep}"
        )
    for flag in ("huber_c", "huber_schedule", "huber_scale"):
        _check_effect(flag, given, objective.loss_type != "l2", "--loss_type huber or smooth_l1")
    is_scaled = objective.huber_schedule != "snr"
    _check_effect("huber_scale", given, is_scaled, "--huber_schedule constant or exponential")
    _check_effect("multires_noise_discount", given, objective.multires_noise_iterations, "--multires_noise_iterations")
    if objective.multires_noise_iterations and objective.noise_offset:
        raise SettingsError(
            "--multires_noise_iterations and --noise_offset both shift large areas of the noise; give one of them"
        )


def _check_optimizer(settings: OptimizerSettings, given: Container[str]) -> None:
    for flag, optimizers in FLAGS_OF_OPTIMIZERS.items():
        has_effect = settings.optimizer in optimizers
        _check_effect(flag, given, has_effect, f"--optimizer {' or '.join(optimizers)}")
    _check_effect("ema_decay", given, settings.use_ema, "--use_ema")
    if settings.use_ema and settings.average_last_steps:
        raise SettingsError("--use_ema and --average_last_steps are two means of the vectors; give one of them")


def _check_rates(training: TrainingSettings, given: Container[str]) -> None:
    if len(stages(training.learning_rate)) > 1 and "lr_scheduler" in given and training.lr_scheduler != "constant":
        raise SettingsError(
            f"--learning_rate {training.learning_rate} is a schedule of its own and cannot be combined with "
            f"--lr_scheduler {training.lr_scheduler}; give one rate, or leave --lr_scheduler out"
        )


def _check_clipping(max_grad_norm: float) -> None:
    if max_grad_norm == 0 or not math.isfinite(max_grad_norm):
        raise SettingsError(
            f"--max_grad_norm {max_grad_norm:g}: 0 would stop all learning, and infinity clips nothing; give a "
            "positive norm, or -1 for no clipping"
        )


def _check_machine(machine: MachineSettings) -> None:
    check_precision(machine.mixed_precision, machine.device)
    if machine.compile and (machine.gradient_checkpointing or machine.low_memory):
        other = "--low_memory" if machine.low_memory else "--gradient_checkpointing"
        raise SettingsError(f"--compile and {other} cannot be combined: a compiled step keeps its own activations")


def _check_hub(hub: HubSettings, saving: SavingSettings, given: Container[str]) -> None:
    if hub.push_to_hub and "push_to" in given and hub.push_to != HUGGING_FACE:
        raise SettingsError(
            f"--push_to_hub means --push_to {HUGGING_FACE} and contradicts --push_to {hub.push_to}; give one of them"
        )
    if hub.uploads_to is not None:
        _check_repository_id(hub.hub_model_id or Path(saving.output_dir).resolve().name)
    if hub.uploads_to == AI_STUDIO and not is_repository_id(hub.hub_model_id or ""):
        raise SettingsError(
            f"--push_to {AI_STUDIO} needs the account and the name of the repository; give --hub_model_id me/my-cat"
        )
    if hub.hub_model_id and hub.uploads_to is None:
        raise SettingsError(
            "--hub_model_id has no effect without --push_to_hub or --push_to; add one, or leave --hub_model_id out"
        )
    if hub.hub_whole_pipeline and (saving.only_save_embeds or hub.uploads_to is None):
        raise SettingsError(
            "--hub_whole_pipeline needs --push_to_hub or --push_to, and a pipeline: leave --only_save_embeds out"
        )


def _check_repository_id(name: str) -> None:
    """Refuse an invalid repository id before hours of training, not after."""
    if not re.fullmatch(r"([\w.-]{1,96}/)?[\w.-]{1,96}", name, re.ASCII) or "--" in name or ".." in name:
        raise SettingsError(
            f"{name!r} is not a valid repository id; give one with --hub_model_id: letters, digits, - _ and . only, "
            "such as my-cat or me/my-cat"
        )


def _check_restarts(max_restarts: int) -> None:
    if max_restarts and share_of_process().world_size > 1:
        raise SettingsError(
            "--max_restarts is for a run of one process; let the launcher restart several: --master etcd://HOST:PORT "
            "--elastic_level 1 --max_restart N before the script, and --resume_from_checkpoint latest behind it"
        )


def _check_resume(saving: SavingSettings, config_file: str | None, given: Container[str]) -> None:
    if saving.allow_changed_settings and not saving.resume_from_checkpoint:
        raise SettingsError("--allow_changed_settings has no effect without --resume_from_checkpoint; add it, or leave "
                            "--allow_changed_settings out")  # fmt: skip
    if saving.resume_from_checkpoint == LATEST and config_file and "output_dir" not in given:
        raise SettingsError(
            "--resume_from_checkpoint latest looks into --output_dir, and --config chooses a new folder without it; "
            "name the folder of the run to resume"
        )


def _check_settling(training: TrainingSettings, validation: ValidationSettings, optimizer: OptimizerSettings) -> None:
    if not training.stop_when_settled:
        return
    if not validation.eval_steps:
        raise SettingsError(
            "--stop_when_settled looks at the loss on the fixed set, and --eval_steps 0 measures none; leave one out"
        )
    if (2 * training.patience + 1) * validation.eval_samples > _MOST_LOSSES:
        raise SettingsError(
            f"--stop_when_settled keeps the losses of --eval_samples {validation.eval_samples} for twice --patience "
            f"{training.patience} evaluations, which is too much for a checkpoint; choose fewer of either"
        )
    if optimizer.average_last_steps:
        raise SettingsError(
            "--stop_when_settled gives the vectors of the best step, and --average_last_steps the mean of the last "
            "ones; leave one of the two out"
        )


def _check_keep_best(validation: ValidationSettings, *, has_prompts: bool) -> None:
    if validation.keep_best and not validation.eval_steps and not has_prompts:
        raise SettingsError("--keep_best has no criterion; add --validation_prompt, or leave out --eval_steps 0")


def _check_clip_model(
    validation: ValidationSettings, concept: ConceptSettings, *, looks: bool, has_prompts: bool
) -> None:
    if not validation.clip_model:
        return
    if not (validation.keep_best or looks or AUTO in (concept.initializer_token or ())):
        raise SettingsError(
            "--clip_model has no effect without --keep_best, --check_images or --initializer_token auto; add one of "
            "them, or leave --clip_model out"
        )
    if validation.keep_best and not has_prompts:
        raise SettingsError("--clip_model judges validation images; add --validation_prompt")


def _check_output_folder(output_dir: str, base_model: str, logging_dir: str | None) -> None:
    base, output = Path(base_model).resolve(), Path(output_dir).resolve()
    for model in (base, DEMO_MODEL.resolve()):
        if model.is_dir() and (output == model or model in output.parents):
            raise SettingsError(
                f"--output_dir {output_dir} is inside the base model {model}, which is never changed; choose another"
            )
    if (output / "model_index.json").exists() and not (output / "run.json").exists():
        raise SettingsError(f"--output_dir {output_dir} has another model in it; choose another folder")
    check_parents(output, f"--output_dir {output_dir}")
    if logging_dir is not None:
        check_parents(output / logging_dir, f"--logging_dir {logging_dir}")


def _check_other_vae(vae: str | None, output_dir: str) -> None:
    """Refuse a VAE in the output folder, where the run saves its pipeline; raises SettingsError."""
    if vae is not None and is_possible_path(vae):
        path = Path(vae).expanduser()
        if path.exists() and Path(output_dir).resolve() in (path.resolve(), *path.resolve().parents):
            raise SettingsError(
                f"--vae {vae} is inside --output_dir {output_dir}, where the run saves a pipeline; choose another "
                "folder for the results"
            )


def _check_output_is_no_data(output_dir: str, folders: tuple[str, ...], flag: str) -> None:
    if Path(output_dir).resolve() in [Path(folder).resolve() for folder in folders]:
        raise SettingsError(f"--output_dir and {flag} are the same folder; choose another for the results")


def _check_held_out(validation: ValidationSettings, images: ImageSettings, concept: ConceptSettings) -> None:
    """Refuse folders of held-out images that do not belong to the concepts, or are without effect."""
    folders, masks = validation.validation_data_dir, validation.validation_mask_dir
    if masks and not folders:
        raise SettingsError(
            "--validation_mask_dir has no effect without --validation_data_dir; add it, or leave "
            "--validation_mask_dir out"
        )
    if not folders:
        return
    for name, given in (("validation_data_dir", folders), ("validation_mask_dir", masks)):
        if given and len(given) != len(concept.placeholder_token):
            raise SettingsError(
                f"--{name} has {len(given)} values and --placeholder_token {len(concept.placeholder_token)}; give one "
                "per concept in the same order"
            )
    if not validation.eval_steps:
        raise SettingsError(
            "--validation_data_dir has no effect with --eval_steps 0, which never measures the loss; leave one of the "
            "two out"
        )
    if bool(images.mask_dir) != bool(masks):
        raise SettingsError(
            "--mask_dir and --validation_mask_dir belong together where --validation_data_dir is given; add the other"
        )
