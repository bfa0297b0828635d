"""The command line of `train_textual_inversion.py`: from arguments to a complete `TrainConfig`.

A flag on the command line wins over one in a configuration file, and both win over the demo's defaults.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from textual_inversion.cli import config_file
from textual_inversion.cli.parser import OneLineParser, demo_defaults, parser_of
from textual_inversion.cli.train_checks import check_effects, check_together
from textual_inversion.generation.prompt_file import validation_prompts
from textual_inversion.settings.choices import ALPHA, ESTIMATING_OPTIMIZERS, GENERIC_WORDS
from textual_inversion.settings.concept import Concept
from textual_inversion.settings.flag import all_flags, changed, filled, values_of
from textual_inversion.settings.rates import stages
from textual_inversion.settings.train import TrainConfig
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.paths import has_demo, is_demo

PROGRAM = "train_textual_inversion.py"


def build_parser() -> OneLineParser:
    """The parser of `train_textual_inversion.py`, with the defaults for real models."""
    description = "Teach a frozen Stable Diffusion model a concept from images. Without arguments: the demo."
    return parser_of(TrainConfig, prog=PROGRAM, description=description)


def parse(argv: list[str] | None = None) -> TrainConfig:
    """The configuration for a command line.

    Args:
        argv: the arguments without the program's name; None: those of this process.

    Raises:
        SettingsError: a flag is unknown or out of bounds, or two flags contradict each other.
    """
    parser = build_parser()
    values = vars(parser.parse_args(argv))
    return settled(values, parser.explicit(argv), parser.notes)


def settled(values: dict[str, Any], given: set[str], notes: Sequence[str] = ()) -> TrainConfig:
    """The complete configuration for some values of flags, with everything filled in that follows from them.

    Args:
        values: name -> value; flags without a value keep their defaults.
        given: names of the flags that the user gave.
        notes: what is to be said of where they are from, in lines.

    Raises:
        SettingsError: two flags contradict each other, or one would have no effect.
    """
    if not has_demo() and not {"pretrained_model_name_or_path", "train_data_dir"} <= given:
        raise SettingsError(
            "this installation comes without the demo; name a base model with --pretrained_model_name_or_path and your "
            "images with --train_data_dir"
        )
    if values.get("config") and "output_dir" not in given:
        values["output_dir"] = config_file.free_folder(values["config"]) or values["output_dir"]
    prompts = tuple(validation_prompts(values.get("validation_prompt"), values.get("validation_prompts_file")))
    config = filled(TrainConfig, values, given=frozenset(given), validation_prompts=prompts, notes=tuple(notes))
    if is_demo(config.base_model.pretrained_model_name_or_path):
        config = _with_demo_defaults(config)
    config = _with_concepts(config)
    check_effects(config)
    config = _with_implied(config)
    config = _with_low_memory(config)
    config = changed(config, checkpointing_steps=config.saving.checkpointing_steps or config.saving.save_steps)
    check_together(config)
    return config


def _with_demo_defaults(config: TrainConfig) -> TrainConfig:
    flags = all_flags(TrainConfig)
    defaults = {name: value for name, value in demo_defaults().items() if name in flags and name not in config.given}
    if {"validation_epochs", "validation_prompt", "validation_prompts_file"} & config.given:
        defaults.pop("validation_steps", None)
    return replace(changed(config, **defaults), demo=True, demo_defaults=defaults)


def _with_concepts(config: TrainConfig) -> TrainConfig:
    """Give each concept its own value of every flag that is per concept."""
    tokens = config.concept.placeholder_token
    repeated = next((token for token in tokens if tokens.count(token) > 1), None)
    if repeated is not None:
        raise SettingsError(f"--placeholder_token names {repeated} twice; give every concept a token of its own")
    if len(tokens) > 1 and "train_data_dir" not in config.given:
        raise SettingsError(f"{len(tokens)} concepts need images of their own; give --train_data_dir a folder for each")
    values = values_of(config)
    per_concept = {
        name: _one_each(name, values[name], len(tokens))
        for name, flag in all_flags(TrainConfig).items()
        if flag.per_concept and values[name] is not None
    }
    if values["initializer_token"] is None and config.demo and not values["initializer_embeds"]:
        per_concept["initializer_token"] = [GENERIC_WORDS[kind] for kind in per_concept["learnable_property"]]
    config = changed(config, **per_concept)
    own = config.concept
    counts = [None if count == "auto" else count for count in own.num_vectors]
    initializers = own.initializer_token or [None] * len(tokens)
    contrasts = own.contrast_data_dir or [""] * len(tokens)
    columns = zip(tokens, counts, initializers, own.learnable_property, own.train_data_dir, strict=True)
    concepts = [Concept(*column) for column in columns]
    paired = zip(concepts, contrasts, strict=True)
    return replace(config, concepts=tuple(replace(concept, contrast_folder=folder) for concept, folder in paired))


def _one_each(name: str, values: tuple, count: int) -> tuple:
    """The values of a flag for each concept; a single value is repeated."""
    if len(values) not in (1, count):
        hint = " (put a phrase in quotes)" if name == "initializer_token" else ""
        raise SettingsError(
            f"--{name} has {len(values)} values and --placeholder_token {count}; give one for all, or one per "
            f"concept in the same order{hint}"
        )
    return values * count if len(values) == 1 else values


def _with_implied(config: TrainConfig) -> TrainConfig:
    """Fill in the settings that another setting implies."""
    if config.images.center_crop:
        config = changed(config, resize_mode="center_crop")
    if config.images.alpha_mask:
        config = changed(config, mask_from=ALPHA)
    if config.saving.plan:  # which writes nothing
        config = changed(config, cache_latents_dir=None)
    return _with_own_defaults(config)


def _with_own_defaults(config: TrainConfig) -> TrainConfig:
    """Fill in the defaults of the optimizer, and of several learning rates, in place of the general and the demo's."""
    optimizer, values = config.optimizer.optimizer, {}
    if optimizer != "adamw":
        # As an L2 term, AdamW's usual decay would outweigh the small gradient; the others' papers have none.
        values["adam_weight_decay"] = 0.0
    if optimizer == "lion":
        values["adam_beta2"] = 0.99
    if optimizer in ESTIMATING_OPTIMIZERS:
        values["learning_rate"] = 1.0
    if len(stages(config.training.learning_rate)) > 1:
        values["lr_scheduler"] = "constant"
    values = {name: value for name, value in values.items() if name not in config.given}
    others = {name: value for name, value in config.demo_defaults.items() if name not in values}
    return replace(changed(config, **values), demo_defaults=others)


def _with_low_memory(config: TrainConfig) -> TrainConfig:
    """Fill in the settings of `--low_memory`, except those that the user gave."""
    if not config.machine.low_memory:
        return config
    values: dict[str, Any] = {"gradient_checkpointing": True}
    training = config.training
    if "train_batch_size" not in config.given:
        values["train_batch_size"] = 1
        if "gradient_accumulation_steps" not in config.given:  # so that the global batch stays the same
            values["gradient_accumulation_steps"] = training.gradient_accumulation_steps * training.train_batch_size
    return changed(config, **values)
