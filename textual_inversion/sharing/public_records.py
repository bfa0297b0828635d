"""What a run's records show to others: only fields of the lists in this module, each with the reason beside it.

A record of a run is for who trained it: it names folders, files of prompts and captions, logs, other models. What is
published is built anew from these lists; a field that stands in none of them stays on this machine. Names of flags say
nothing about anybody, so a published `config.yaml` says which of them are left out.
"""

import json
from collections.abc import Mapping
from typing import Any

from textual_inversion.settings.flag import all_flags
from textual_inversion.settings.train import TrainConfig
from textual_inversion.system.errors import OutputError
from textual_inversion.system.paths import LOCAL


def _because(reason: str, *names: str) -> dict[str, str]:
    return dict.fromkeys(names, reason)


# Field of run.json -> why it may be shown.
RECORD = (
    _because("who uses the vectors must know the model that they belong to; a local one is named by its hash",
             "base_model")
    | _because("who uses the vectors sees their images through it; a local one is named by its hash", "vae",
               "vae_sha256")
    | _because("it is written in every prompt that uses the concept, and in the embedding files", "placeholder_token")
    | _because("a word of the base model's vocabulary", "initializer_token")
    | _because("one of a few words", "learnable_property", "prediction_type")
    | _because("a number, or a shape that the embedding files show", "num_vectors", "embedding_width", "seed")
    | _because("versions of public packages, and a commit of this project", "versions", "git_revision")
    | _because("cut down to the settings below", "settings")
    | _because("cut down to the numbers of the steps", "resumed")
    | _because("cut down to what was measured, which is numbers", "figures")
)  # fmt: skip

_NUMBER = "a number, a switch or one of a few words, which decides how the vectors learn"
_DRAWN = "it stands under the validation images, which are published"
# Setting in run.json or config.yaml -> why it may be shown.
SETTINGS = (
    _because("as above", "placeholder_token", "initializer_token", "learnable_property", "num_vectors", "seed")
    | _because("the language of the prompt templates", "language")
    | _because("some of a few words, whose settings stand beside it", "preset")
    | _because("shown where the base model is a hub's: names a public version of it", "revision", "variant")
    | _because("shown where the base model is a hub's: its repository id", "pretrained_model_name_or_path")
    | _because(
        _NUMBER, "repeats", "no_captions", "append_file_name_to_text", "file_name_split_char", "vector_shuffle",
        "token_dropout", "progressive_vectors", "max_train_steps", "num_train_epochs", "train_batch_size",
        "gradient_accumulation_steps", "learning_rate", "scale_lr", "lr_scheduler", "lr_warmup_steps", "lr_num_cycles",
        "lr_power", "max_skipped_steps", "loss_type", "huber_c", "snr_gamma", "debiased_estimation_loss",
        "noise_offset", "input_perturbation", "min_timestep", "max_timestep", "timestep_sampling", "antithetic_noise",
        "clip_skip", "max_token_length", "shuffle_caption", "keep_tokens", "caption_dropout_rate",
        "caption_tag_dropout_rate", "enable_wildcard", "template_share", "num_blank_prompts", "num_a_prompts",
        "optimizer", "adam_beta1", "adam_beta2", "adam_weight_decay", "adam_epsilon", "sgd_momentum", "max_grad_norm",
        "adafactor_scale_parameter", "d0", "d_coef", "average_last_steps", "contrast_weight", "use_ema", "ema_decay",
        "huber_schedule", "huber_scale", "multires_noise_iterations", "multires_noise_discount", "norm_reg_weight",
        "initial_reg_weight", "hidden_reg_weight", "demo", "epoch_samples", "global_batch", "peak_learning_rate",
        "stop_when_settled", "patience")
    | _because(
        "a number, a switch or one of a few words, which decides how images are cut to size", "resolution", "height",
        "width", "resize_mode", "center_crop", "interpolation", "flip_p", "alpha_mask", "unmasked_weight",
        "tile_rows", "mask_from", "brightness_jitter", "contrast_jitter", "saturation_jitter", "hue_jitter", "rotation",
        "augmented_variants")
    | _because(_DRAWN, "validation_prompt", "sample_prompts")
    | _because(
        "a number, a switch or one of a few words, which decides what is measured and drawn", "eval_steps",
        "eval_samples", "prompt_weights", "validation_epochs", "validation_steps", "num_validation_images", "keep_best",
        "overview_concepts", "overview_images",
        "guidance_scale", "num_inference_steps", "scheduler", "overview", "report_to", "check_images")
    | _because(
        "a number, a switch or some of a few words, which decides what is written", "save_steps", "checkpointing_steps",
        "checkpoints_total_limit", "max_restarts", "allow_changed_settings", "only_save_embeds", "export", "plan")
    | _because(
        "a number, a switch or one of a few words, which decides how it is computed", "vae_batch_size",
        "mixed_precision", "allow_tf32", "gradient_checkpointing", "enable_xformers_memory_efficient_attention",
        "compile", "low_memory")
)  # fmt: skip

# Flag -> why it is not shown. A test demands that each flag stands here or above.
KEPT_BACK = (
    _because("a path of the machine that trained, or a name in a folder there", "config", "cache_dir",
             "cache_latents_dir",
             "train_data_dir", "contrast_data_dir", "template_file", "mask_dir", "mask_model", "validation_data_dir",
             "validation_mask_dir", "validation_prompts_file", "initializer_embeds",
             "logging_dir", "output_dir", "resume_from_checkpoint")
    | _because("may be a path, even where it looks like a repository id", "tokenizer_name", "vae", "clip_model")
    | _because("words of captions, which stay on the machine that trained", "caption_prefix", "caption_suffix")
    | _because("tokens of files that stay on the machine that trained", "rename")
    | _because("about the machine that trained", "device", "num_threads", "dataloader_num_workers")
    | _because("about the upload and its account", "push_to_hub", "push_to", "hub_whole_pipeline", "hub_token",
             "hub_model_id")
)  # fmt: skip

EXPORTS = "export"  # the folder of files that are written to be published: they show METADATA alone

# Entry in the metadata of a safetensors file -> why it may be shown.
METADATA = {name: RECORD[name] for name in ("base_model", "seed", "learnable_property", "initializer_token")} | {
    "steps": "a number",
    "clip_skip": "a number",
    "max_token_length": "a number",
}

_TEXTS_OF_FIGURES = {"overview": "overview.png"}  # the only name among them
_BEST = ("step", "by", "score", "scores")
_OF_A_HUB = ("revision", "variant")


def public_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """A run.json for others.

    Args:
        record: the run's own.

    Raises:
        OutputError: it is not as a run writes it.
    """
    if not isinstance(record.get("settings"), dict) or not isinstance(record.get("public_base_model"), str):
        raise OutputError("run.json is not as a run writes it, so it cannot be uploaded; train again")
    base = record["public_base_model"]
    shown = {name: value for name, value in record.items() if name in RECORD}
    shown["base_model"] = base
    shown["settings"] = public_settings(record["settings"], base)
    shown["resumed"] = [{"step": one["step"]} for one in record.get("resumed", ()) if type(one.get("step")) is int]
    shown["figures"] = _figures(record.get("figures", {}))
    return shown


def public_settings(settings: Mapping[str, Any], base_model: str) -> dict[str, Any]:
    """The settings that others may see, of a run.json or of a config.yaml.

    Args:
        base_model: its name for others, see `models.identity`.
    """
    shown = {name: value for name, value in settings.items() if name in SETTINGS}
    if base_model.startswith(LOCAL):
        shown = {name: value for name, value in shown.items() if name not in _OF_A_HUB}
        shown.pop("pretrained_model_name_or_path", None)
    elif "pretrained_model_name_or_path" in shown:
        shown["pretrained_model_name_or_path"] = base_model
    return shown


def public_config(text: str, base_model: str) -> str:
    """A config.yaml for others, from the run's own.

    Raises:
        OutputError: it is not as a run writes it.
    """
    import yaml

    try:
        given = yaml.safe_load(text) or {}
        shown, first = public_settings(given, base_model), text.splitlines()[0]
    except (yaml.YAMLError, IndexError, AttributeError, RecursionError) as error:
        raise OutputError("config.yaml is not as a run writes it, so it cannot be uploaded; train again") from error
    left_out = [name for name in given if name in all_flags(TrainConfig) and name not in shown]
    lines = [first] + ([f"# To be given by who repeats it: {', '.join(left_out)}"] if left_out else [])
    dumped = yaml.safe_dump(shown, allow_unicode=True, sort_keys=False, width=10**6) if shown else ""
    return "\n".join([*lines, dumped])


def public_metadata(metadata: Mapping[str, str], base_model: str) -> dict[str, str]:
    """The metadata of a safetensors file for others."""
    shown = {name: value for name, value in metadata.items() if name in METADATA}
    return shown | {"base_model": base_model} if "base_model" in shown else shown


def record_of(content: bytes) -> dict[str, Any]:
    """A run.json as a dictionary; raises OutputError where it is none."""
    try:
        record = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise OutputError("run.json is damaged and cannot be uploaded; train again") from error
    if not isinstance(record, dict):
        raise OutputError("run.json is damaged and cannot be uploaded; train again")
    return record


def _figures(figures: Any) -> Any:
    shown = _numbers({name: value for name, value in figures.items() if name not in ("overview", "best")})
    if figures.get("overview") == _TEXTS_OF_FIGURES["overview"]:
        shown["overview"] = figures["overview"]
    if isinstance(figures.get("best"), dict):
        shown["best"] = {name: value for name, value in figures["best"].items() if name in _BEST}
    return shown


def _numbers(value: Any) -> Any:
    """A JSON value without its texts, but for names of entries, which are placeholder tokens and steps."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items() if not isinstance(item, str)}
    if isinstance(value, list):
        return [_numbers(item) for item in value if not isinstance(item, str)]
    return value
