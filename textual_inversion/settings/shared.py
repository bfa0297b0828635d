"""Flags, groups of flags and bounds that several commands share."""

import argparse
import re
from typing import Any

from textual_inversion.formats.learned_embedding import composed
from textual_inversion.settings.bounds import clip_layer, device_name, number, side, threads, token_length
from textual_inversion.settings.choices import PRECISIONS
from textual_inversion.settings.flag import LOCAL, VAE, flag, group

# Classifier-free guidance and denoising steps: the bounds of every command, and the defaults of real base models.
guidance = number(float, 0.0, 1000.0)
inference_steps = number(int, 1, 1000)
GUIDANCE_SCALE, NUM_INFERENCE_STEPS = 7.5, 50

# Flags of one machine: they change results by rounding at most, and may differ between processes.
ONE_MACHINE = dict(decides_result=False, same_everywhere=False)
# Flags that name a file or folder: the contents are compared instead.
CONTENTS_COMPARED = dict(decides_result=False, same_everywhere=False)
# Flags of what is observed during training: they do not change what is learned.
ONLY_WATCHED = dict(decides_result=False)


def variant(text: str) -> str:
    """An argparse `type` for the variant of weight files."""
    if not re.fullmatch(r"\w[\w-]*", text):
        raise argparse.ArgumentTypeError(f"must be part of a file name, such as fp16, not {text}")
    return text


def pixels(text: str) -> int:
    """An argparse `type` for an image's height or width."""
    value = side(text)
    if value % 8:
        raise argparse.ArgumentTypeError(f"must be a multiple of 8, not {text}; try {max(8, round(value / 8) * 8)}")
    return value


def renaming(text: str) -> str:
    """An argparse `type` for another placeholder token of a concept: OLD=NEW."""
    old, sign, new = text.rpartition("=")
    if not sign or not new or any(character.isspace() for character in new):
        raise argparse.ArgumentTypeError(f"must be OLD=NEW, such as 'my cat=<my-cat>', not {text or 'nothing'}")
    return f"{composed(old)}={composed(new)}"


# How prompts are read. It belongs to the vectors that were learned so, whatever base model is named for them.
READING = ("clip_skip", "max_token_length")


# Flags that each command has in one of its groups.
def rename_flag(what: str) -> tuple[str, ...] | None:
    """The flag --rename, with what it renames."""
    text = f"other placeholder tokens for {what}; OLD is the one in the file, or the file's name"
    return flag(None, text, nargs="+", type=renaming, metavar="OLD=NEW", decides_result=False)


def revision_flag() -> str | None:
    """The flag --revision."""
    return flag(
        None,
        "branch, tag or commit of the base model's repository on Hugging Face",
        metavar="NAME",
        is_reused=True,
        **CONTENTS_COMPARED,
    )


def variant_flag() -> str | None:
    """The flag --variant."""
    return flag(
        None,
        "weights to prefer, such as fp16; used in the precision of --mixed_precision all the same",
        type=variant,
        metavar="NAME",
        is_reused=True,
        **CONTENTS_COMPARED,
    )


def cache_dir_flag() -> str | None:
    """The flag --cache_dir."""
    text = "where downloads are kept; unset: the hubs' own folders"
    return flag(
        None, text, metavar="DIR", at_address=LOCAL, recorded_portably=True, is_reused=True, **CONTENTS_COMPARED
    )


def vae_flag() -> str | None:
    """The flag --vae."""
    text = "a VAE other than the base model's: a folder, a .safetensors file, or a repository id"
    return flag(
        None, text, metavar="MODEL", at_address=VAE, recorded_portably=True, is_reused=True, **CONTENTS_COMPARED
    )


def clip_skip_flag(unset: str) -> int | None:
    """The flag --clip_skip; `unset` says what it is where it is not given."""
    text = f"layer of CLIP that prompts are read with, counted from the last, which is 1; unset: {unset}"
    return flag(None, text, type=clip_layer, metavar="N", is_reused=True)


def max_token_length_flag(what: str, unset: str) -> int | None:
    """The flag --max_token_length, with the prompts that it is about."""
    text = f"tokens of {what} that are read, in chunks of 75: 75, 150 or 225; unset: {unset}"
    return flag(None, text, type=token_length, metavar="N", is_reused=True)


def device_flag() -> str | None:
    """The flag --device."""
    text = "cpu, gpu or gpu:N; unset: a GPU where there is one"
    return flag(None, text, type=device_name, metavar="NAME", **ONE_MACHINE)


def num_threads_flag(text: str) -> int | None:
    """The flag --num_threads, with its help."""
    return flag(None, text, type=threads, metavar="N", **ONE_MACHINE)


def mixed_precision_flag() -> str:
    """The flag --mixed_precision."""
    text = "what the U-Net and text encoders compute in; fp16 and bf16 need a GPU"
    return flag("no", text, choices=PRECISIONS)


def allow_tf32_flag() -> bool:
    """The flag --allow_tf32."""
    return flag(False, "let a GPU round the factors of float32 products to 10 bits: faster")


def prompt_weights_flag(what: str, **facts: Any) -> bool:
    """The flag --prompt_weights, with the prompts that it is about."""
    return flag(False, f"{what} of any length, with weights: (word:1.3), (word), [word]", **facts)


@group("configuration")
class ConfigFile:
    """Settings from a file."""

    config: str | None = flag(
        None,
        "a YAML file of flags without their dashes; the command line wins over it",
        metavar="FILE",
        repeatable=False,
        **CONTENTS_COMPARED,
    )


def source_of(base_model: Any, token: str | None) -> dict[str, str | None]:
    """The arguments of `models.hub.resolve` and `models.base_model.load_base_model` that choose files on a hub.

    Args:
        base_model: the group "base model" of any command.
        token: access token, for gated repositories.
    """
    names = ("revision", "variant", "cache_dir")
    return {name: getattr(base_model, name) for name in names} | {"token": token}


def parts_of(base_model: Any) -> dict[str, Any]:
    """The arguments of `models.base_model.load_base_model` that choose parts, and how prompts are read.

    Args:
        base_model: the group "base model" of any command.
    """
    return {name: getattr(base_model, name) for name in ("tokenizer_name", "vae", *READING)}
