"""Checks of the configurations of a base model's parts, which may come from anywhere, and messages about bad ones."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from textual_inversion.formats.errors import printable
from textual_inversion.system.errors import BaseModelError, TextualInversionError, one_line

MOST_LAYERS = 1000  # of anything; Stable Diffusion XL has 32 in one encoder
LARGEST_NUMBER = 10_000_000  # tokens, channels; the largest vocabulary here has 250,000
# Sizes that no weight has: latents and pixels per side. Stable Diffusion XL has 128 and 1,024.
MOST_SAMPLE_SIZE = {"unet": 1024, "vae": 8192}
_OF_BLOCKS = ("block_out_channels", "down_block_types", "up_block_types")  # lists with an entry for each block
_FEW_LAYERS = 200  # are built in a moment; loading them says which tensors are missing
_SHOWN = 160  # characters of another library's message


def check_sizes(config: dict[str, Any], folder: Path) -> None:
    """Refuse sizes that no model has, before memory and time are spent on them; raises BaseModelError."""
    for key, value in config.items():
        most = MOST_LAYERS if "layers" in key else LARGEST_NUMBER
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, (int, float)) and not abs(number) <= most:
                raise BaseModelError(
                    f"{folder / 'config.json'} says {key} {number}, which no model has; download it again"
                )


def check_sample_size(config: dict[str, Any], part: str, folder: Path) -> None:
    """Refuse images that no model makes; `part` is a key of `MOST_SAMPLE_SIZE`. Raises BaseModelError."""
    size, most = config.get("sample_size"), MOST_SAMPLE_SIZE[part]
    for side in size if isinstance(size, list) else [size]:
        if side is not None and (type(side) is not int or not 0 < side <= most):
            raise BaseModelError(
                f"{folder / 'config.json'} says sample_size {printable(repr(size), 40)}, and no model has more than "
                f"{most}; download it again"
            )


def check_announced(config: dict[str, Any], num_tensors: int, folder: Path) -> None:
    """Refuse a configuration of more layers than its weights have tensors, before such a model is built.

    Args:
        config: of any part; each of its layers has a tensor at least.
        num_tensors: in the files of weights, which say so in their headers.

    Raises:
        BaseModelError: file and configuration are of different models.
    """
    layers = _layers(config)
    if layers > max(num_tensors, _FEW_LAYERS):
        raise BaseModelError(
            f"{folder / 'config.json'} announces {layers} layers, and its weights have {num_tensors} tensors; file and "
            "config.json are of different models"
        )


def _layers(config: dict[str, Any]) -> int:
    """The fewest layers that a configuration can mean, of a U-Net, a VAE or text and image encoders."""
    of_blocks = max(len(config[key]) if isinstance(config.get(key), list) else 0 for key in _OF_BLOCKS)
    total = of_blocks
    for key, value in config.items():
        if isinstance(value, dict):
            total += _layers(value)
        elif "layers" in key:
            each = _added_up(value)
            total += each if isinstance(value, list) or "per_block" not in key else each * max(1, of_blocks)
    return total


def _added_up(value: Any) -> int:
    """The sum of the whole numbers in a number or in nested lists of them."""
    if isinstance(value, list):
        return sum(map(_added_up, value))
    return int(value) if isinstance(value, (int, float)) and value > 0 else 0


def check_blocks(config: dict[str, Any], folder: Path) -> None:
    """Refuse a U-Net's or a VAE's configuration with impossible blocks; raises BaseModelError."""
    check_sizes(config, folder)
    groups, channels = config.get("norm_num_groups"), config.get("block_out_channels")
    if not isinstance(channels, list) or not channels or not all(type(c) is int and c > 0 for c in channels):
        channels = None
    if channels is None or (groups is not None and (type(groups) is not int or groups < 1)):
        raise BaseModelError(
            f"{folder / 'config.json'} does not say how many channels its blocks have; download it again"
        )
    scaling = config.get("scaling_factor", 1)
    if not isinstance(scaling, (int, float)) or not scaling > 0:
        raise BaseModelError(f"{folder / 'config.json'} says scaling_factor {scaling!r}; download it again")
    if groups and any(channel % groups for channel in channels):
        raise BaseModelError(
            f"{folder / 'config.json'} divides {channels} channels into {groups} groups, which is not possible; "
            "download it again"
        )


@contextlib.contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn what ppdiffusers' classes raise for a bad configuration, almost any exception, into a BaseModelError."""
    try:
        yield
    except (TextualInversionError, MemoryError):
        raise
    except Exception as error:
        raise BaseModelError(
            f"no model can be built from {folder} ({_reason(error)}); one of its configurations is damaged or of "
            "another version, download it again"
        ) from error


def _reason(error: Exception) -> str:
    """The message of an exception that was written for users; else its type."""
    reason = one_line(error) if isinstance(error, (ValueError, NotImplementedError, OSError)) else type(error).__name__
    return reason if len(reason) <= _SHOWN else reason[: _SHOWN - 1] + "…"
