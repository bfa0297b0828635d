"""A configuration of another trainer as command-line arguments of this one, and what could not be taken over.

    understood(path, foreign, parser)     arguments, and one line about the rest

`foreign_files` reads such a file, `settings.other_names` knows what its keys are here, `foreign_values` what their
values are.
"""

import argparse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from textual_inversion.cli.foreign_files import ForeignFile, Setting
from textual_inversion.cli.foreign_values import Value, counterpart
from textual_inversion.settings.choices import FLAGS_OF_OPTIMIZERS
from textual_inversion.settings.other_names import OtherName, named
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.paths import SCRIPTS
from textual_inversion.system.terminal_text import visible

_MOST_NAMED = 400
# Programs whose sections do not matter: a key is known by its last name.
_BY_LAST_NAME = ("kohya", "Determined")
_CALLED = {"kohya": "kohya's scripts", "Determined": "Determined's example"}
# Values that win over others of the same flag, from another key.
_WINNING = {"resize_mode": ("bucket",), "mixed_precision": ("fp16", "bf16")}
_WINNING_KEYS = ("embedding_learning_rate",)
# Keys that decide how others are read.
_READ = ("training_method", "concepts.enabled", "concepts.type", "samples.enabled", "loss_weight_strength")
_OFF = ({"false"}, {"0"})  # of what is not here: nothing is lost
# A flag that would be refused without one of the others.
_NEEDS: Mapping[str, tuple[str, ...]] = {
    "huber_c": ("loss_type",),
    "huber_schedule": ("loss_type",),
    "huber_scale": ("loss_type",),
    "multires_noise_discount": ("multires_noise_iterations",),
    "ema_decay": ("use_ema",),
    "unmasked_weight": ("mask_dir", "alpha_mask", "mask_from"),
    "augmented_variants": ("rotation", "brightness_jitter", "contrast_jitter", "saturation_jitter", "hue_jitter"),
    "validation_steps": ("validation_prompt", "validation_prompts_file"),
    "validation_epochs": ("validation_prompt", "validation_prompts_file"),
    "hub_model_id": ("push_to_hub",),
    "hidden_reg_weight": ("initializer_token",),
    "keep_tokens": ("shuffle_caption", "caption_tag_dropout_rate"),
}
# Flags with a value for each concept.
_PER_CONCEPT = (
    "train_data_dir",
    "initializer_token",
    "num_vectors",
    "learnable_property",
    "mask_dir",
    "initializer_embeds",
)


@dataclass
class _Taken:
    """Flag -> its values, and the keys that they are from; and the keys that were not taken over."""

    values: dict[str, tuple[str, ...]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def drop(self, flag: str) -> None:
        """Leave out what was taken for a flag."""
        if self.values.pop(flag, None) is not None:
            self.left.append(self.keys.pop(flag))


def understood(
    path: str | Path, foreign: ForeignFile, parser: argparse.ArgumentParser, arguments: Callable
) -> tuple[list[str], str]:
    """A configuration of another trainer as arguments of `train_textual_inversion.py`.

    Args:
        arguments: makes arguments of (action, values, location), and has the parser check them.

    Returns:
        The arguments, and one line that names each key that was not taken over.

    Raises:
        SettingsError: the command does not train; nothing in the file is known; or a value is refused.
    """
    if parser.prog != SCRIPTS["train"]:
        raise SettingsError(
            f"--config {path} is a training configuration of {_called(foreign)}, for {SCRIPTS['train']}; give "
            f"{parser.prog} a YAML file of its own flags"
        )
    taken = _taken(path, foreign, {action.dest: action.nargs == "+" for action in parser._actions})
    _settle(taken, foreign.system)
    if not taken.values:
        raise SettingsError(
            f"--config {path} reads like a configuration of {_called(foreign)}, but holds nothing that is known of "
            "it; a file of this program has lines such as learning_rate: 0.001"
        )
    actions = {action.dest: action for action in parser._actions}
    made = []
    for flag, values in taken.values.items():
        made += arguments(actions[flag], values, f"{path}, {visible(taken.keys[flag])[:80]}")
    return made, _line(path, foreign, taken)


def _called(foreign: ForeignFile) -> str:
    return _CALLED.get(foreign.system, foreign.system)


def _row(system: str, key: str) -> OtherName | None:
    name = key.rpartition(".")[2] if system in _BY_LAST_NAME else key
    return named(system, "file", name) or named(system, "train", name)


def _taken(path: str | Path, foreign: ForeignFile, flags: Mapping[str, bool]) -> _Taken:
    """What the keys of a file are here, each by itself.

    Args:
        flags: flag of the command -> whether it takes several values.
    """
    taken = _Taken()
    beside = {one.key: one.values for one in foreign.settings}
    for setting in _unfolded(foreign):
        row = _row(foreign.system, setting.key)
        is_read = setting.key in _READ or setting.key.endswith("_unit") and setting.key[: -len("_unit")] in beside
        if row is None and not is_read:
            taken.unknown.append(setting.key)
        if row is None or is_read:
            continue
        try:
            found = counterpart(Value(row, setting.values, beside, setting.key)) if row.flag in flags else None
        except (ValueError, OverflowError, argparse.ArgumentTypeError):
            raise SettingsError(
                f"{path}, {visible(setting.key)[:80]}: {visible(setting.values[0])[:60]} is not such a value; correct "
                "it or leave it out"
            ) from None
        if found is None and {text.lower() for text in setting.values} not in _OFF:
            taken.left.append(setting.key)
        for flag, values in (found or {}).items():
            _take(taken, flag, values, setting.key, takes_several=flags[flag])
    return taken


def _unfolded(foreign: ForeignFile) -> Iterable[Setting]:
    """The settings; Determined's access token out of the variables of the environment, which are a list."""
    for one in foreign.settings:
        variables = [text.partition("=") for text in one.values]
        tokens = [(value,) for name, _, value in variables if name == "HF_AUTH_TOKEN" and value]
        if foreign.system == "Determined" and one.key.startswith("environment.") and tokens:
            yield Setting("environment.HF_AUTH_TOKEN", tokens[-1])
            one = Setting(one.key, tuple(name for name, _, _ in variables if name != "HF_AUTH_TOKEN"))
        if one.values:
            yield one


def _take(taken: _Taken, flag: str, values: tuple[str, ...], key: str, *, takes_several: bool) -> None:
    """Take a flag's values. Those of one key, or of several embeddings, are joined; else the more special key wins."""
    if flag not in taken.values:
        taken.values[flag], taken.keys[flag] = values, key
    elif takes_several and (taken.keys[flag] == key or "embedding" in key):
        taken.values[flag] += values
    elif taken.keys[flag] == key:
        taken.left += [] if taken.values[flag] == values else [f"{key} (all but the first)"]
    elif _is_stronger(flag, values, key, taken):
        taken.left.append(taken.keys[flag])
        taken.values[flag], taken.keys[flag] = values, key
    else:
        taken.left.append(key)


def _is_stronger(flag: str, values: tuple[str, ...], key: str, taken: _Taken) -> bool:
    winning = _WINNING.get(flag, ())
    if winning:
        return values[0] in winning
    if taken.keys[flag] in _WINNING_KEYS or key in _WINNING_KEYS:
        return key in _WINNING_KEYS
    return key.count(".") >= taken.keys[flag].count(".")


def _settle(taken: _Taken, system: str) -> None:
    """What follows from several keys together, so that the settings do not contradict each other."""
    values = taken.values
    if system in ("kohya", "OneTrainer") and "num_train_epochs" in values:
        taken.drop("max_train_steps")  # which would win here
    if "resize_mode" in values:
        taken.drop("center_crop")
    if system == "Determined" and "initializer_token" in values and "num_vectors" not in values:
        values["num_vectors"], taken.keys["num_vectors"] = ("auto",), taken.keys["initializer_token"]
    concepts = len(values.get("placeholder_token", ("",)))
    for flag in _PER_CONCEPT:
        if len(values.get(flag, ())) not in (0, 1, concepts):
            surplus = len(values[flag]) - concepts
            values[flag] = values[flag][:concepts] if surplus > 0 else values[flag][:1]
            taken.left.append(f"{taken.keys[flag]} (all but the first)")
    for flag, others in _NEEDS.items():
        if flag in values and not any(other in values for other in others):
            taken.drop(flag)
    if values.get("loss_type") == ("l2",):
        for flag in ("huber_c", "huber_schedule", "huber_scale"):
            taken.drop(flag)
    if values.get("huber_schedule") == ("snr",):
        taken.drop("huber_scale")
    if "multires_noise_iterations" in values:
        taken.drop("noise_offset")
    for flag, optimizers in FLAGS_OF_OPTIMIZERS.items():
        if values.get("optimizer", ("adamw",))[0] not in optimizers:
            taken.drop(flag)
    if values.get("resize_mode") == ("random_crop",):
        taken.drop("vae_batch_size")


def _line(path: str | Path, foreign: ForeignFile, taken: _Taken) -> str:
    """What was read, and what was not, in one line."""
    parts = [f"{path} is read as a configuration of {_called(foreign)}: {len(taken.values)} flags"]
    parts += [f"not taken over: {_grouped(taken.left)}"] if taken.left else []
    parts += [f"unknown: {_grouped(taken.unknown)}"] if taken.unknown else []
    return "; ".join([*parts, "what it leaves out has this program's defaults"])


def _grouped(keys: Iterable[str]) -> str:
    """Keys with those of one section together: `seed, optimizer (beta3, eps2)`."""
    sections: dict[str, list[str]] = {}
    names = list(dict.fromkeys(visible(key)[:80] for key in keys))
    for key in names[:_MOST_NAMED]:
        section, _, name = key.rpartition(".") if not key.endswith(")") else ("", "", key)
        sections.setdefault(section, []).append(name)
    shown = [", ".join(own) if not section else f"{section} ({', '.join(own)})" for section, own in sections.items()]
    more = [f"and {len(names) - _MOST_NAMED} more"] if len(names) > _MOST_NAMED else []
    return ", ".join(shown + more)
