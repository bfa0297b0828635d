"""Value ranges of settings, as argparse `type`s. A value outside raises `argparse.ArgumentTypeError`."""

import argparse
import re
from collections.abc import Callable
from typing import Any

from textual_inversion.formats.lora_file import split_scale

Parse = Callable[[str], Any]


def truth(text: str) -> bool:
    """An argparse `type` for true and false; accepts yes, no, on and off too, as YAML does."""
    if text.lower() in ("true", "yes", "on"):
        return True
    if text.lower() in ("false", "no", "off"):
        return False
    raise argparse.ArgumentTypeError(f"must be true or false, not {text}")


def number(kind: type, low: float | None = None, high: float | None = None, *, above: float | None = None) -> Parse:
    """An argparse `type` for an int or float in [low, high], or for one greater than `above` and finite."""

    def parse(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            expected = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{text!r} is not {expected}") from None
        if value != value or (low is not None and value < low) or (high is not None and value > high):
            bounds = f"at least {low}" if high is None else f"between {low} and {high}"
            bounds = bounds if above is None else f"greater than {above}"  # NaN
            raise argparse.ArgumentTypeError(f"must be {bounds}, not {text}")
        if above is not None and not above < value < float("inf"):
            raise argparse.ArgumentTypeError(f"must be greater than {above}, not {text}")
        return value

    return parse


def count(low: int, most: int = 1_000_000_000) -> Parse:
    """An argparse `type` for a whole number in [low, most]; a larger one is a mistake or would fill the memory."""
    at_least = number(int, low)

    def parse(text: str) -> int:
        value = at_least(text)
        if value > most:
            raise argparse.ArgumentTypeError(f"must be at most {most}, not {text[:40]}")
        return value

    return parse


positive_int = count(1)
natural = count(0)
at_once = count(1, 65_536)  # samples or images that are in memory at the same time
LONGEST_SIDE = 16_384  # pixels
side = count(1, LONGEST_SIDE)
threads = count(1, 1024)
share = number(float, 0.0, 1.0)
positive = number(float, above=0.0)
not_negative = number(float, 0.0, 1e9)
seed_number = number(int, 0, 2**63 - 1)


LONGEST_CHUNK = 75  # tokens of a prompt that CLIP reads at once
clip_layer = count(1, 100)  # the largest text encoder of Stable Diffusion has 32 layers


def token_length(text: str) -> int:
    """An argparse `type` for the tokens of a prompt: those of one, two or three chunks of Stable Diffusion's 75."""
    if text not in ("75", "150", "225"):
        raise argparse.ArgumentTypeError(f"must be 75, 150 or 225, not {text}")
    return int(text)


def vector_count(text: str) -> int | str:
    """An argparse `type` for a number of vectors, at least 1, or "auto"."""
    if text == "auto" or re.fullmatch(r"[+-]?\d+", text):
        return text if text == "auto" else positive_int(text)
    raise argparse.ArgumentTypeError(f"must be a whole number or auto, not {text}")


def strength(text: str) -> float:
    """An argparse `type` for the share of denoising steps that is taken from an image on, in (0, 1]."""
    value = number(float, above=0.0)(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"must be greater than 0 and at most 1, not {text}")
    return value


def lora(text: str) -> str:
    """An argparse `type` for a LoRA file with its scale: FILE[:SCALE]."""
    try:
        split_scale(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}; write FILE:SCALE, such as style.safetensors:0.8") from None
    return text


def device_name(text: str) -> str:
    """An argparse `type` for cpu, gpu or gpu:N."""
    if not re.fullmatch(r"cpu|gpu(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"must be cpu, gpu or gpu:N, not {text}")
    return text
