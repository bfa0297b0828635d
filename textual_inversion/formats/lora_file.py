"""Read LoRA files: the low-rank changes of a base model's weights (arXiv 2106.09685), by the layer that they change.

Files come from strangers and are read like embedding files: nothing in them is run. These names are known:

    diffusers, ppdiffusers   unet.PATH.lora.down.weight, unet.PATH.processor.to_q_lora.down.weight (also without
                             "unet."), text_encoder.PATH.lora_linear_layer.down.weight, PATH.alpha
    PEFT in diffusers        unet.PATH.lora_A.weight
    kohya                    lora_unet_PATH.lora_down.weight, lora_te_PATH (Stable Diffusion XL: lora_te1_, lora_te2_)

Which layers a base model has, `models/lora.py` knows.
"""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from textual_inversion.formats.embedding_file import read_weights
from textual_inversion.formats.errors import NotAnEmbedding, WrongValues, file_name, quoted
from textual_inversion.system import user_files
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.paths import portable

KOHYA = ("lora_unet_", "lora_te_", "lora_te1_", "lora_te2_")
MOST_SCALE = 100.0
_DOWN, _UP, _ALPHA = "down", "up", "alpha"
_ROLES = {"down": _DOWN, "A": _DOWN, "up": _UP, "B": _UP}
# Pattern of a tensor's name -> how the path of the layer follows from it. Groups: path, projection or none, role.
_NAMES = (
    re.compile(r"(?P<path>.+?)(?:\.processor)?\.to_(?P<projection>q|k|v|out)_lora\.(?P<role>down|up)\.weight"),
    re.compile(r"(?P<path>.+)\.(?:lora|lora_linear_layer)\.(?P<role>down|up)\.weight"),
    re.compile(r"(?P<path>.+)\.lora_(?P<role>down|up|A|B)(?:\.default)?\.weight"),
    re.compile(r"(?P<path>.+?)(?:\.to_(?P<projection>q|k|v|out)_lora|\.lora|\.lora_linear_layer)?"
               r"(?:\.down\.weight)?\.(?P<role>alpha)"),
)  # fmt: skip
_OTHER_KINDS = (("hada_", "a LoHa"), ("lokr_", "a LoKr"), ("dora_scale", "a DoRA"), ("lora_mid", "a LoCon with a core"))
_PLAIN_ONLY = "only plain LoRA files, with a down and an up matrix for each layer, are used here"


@dataclass(frozen=True)
class LowRank:
    """The change of one layer's weights: `alpha / rank · up · down`.

    Attributes:
        down, up: finite float32, [R, in] and [out, R] as PyTorch lays them out, or transposed as Paddle does;
            of a convolution [R, in, h, w] and [out, R, 1, 1] in both.
        alpha: None stands for the rank, so for a factor of 1.
    """

    down: np.ndarray
    up: np.ndarray
    alpha: float | None = None


@dataclass(frozen=True)
class LoraFile:
    """A LoRA as a file holds it.

    Attributes:
        path: the file.
        scale: the user's factor for all of its changes.
        sha256: of the file, in hexadecimal.
        changes: name of a layer, as the file has it -> its change.
        is_paddle: the file says that its matrices are laid out as Paddle's.
    """

    path: str
    scale: float
    sha256: str
    changes: Mapping[str, LowRank] = field(repr=False)
    is_paddle: bool = False

    @property
    def facts(self) -> dict[str, Any]:
        """What is recorded of it beside an image."""
        return {"file": portable(self.path), "scale": self.scale, "sha256": self.sha256}


def split_scale(text: str) -> tuple[str, float]:
    """The file and the scale of `FILE[:SCALE]`; a file of exactly this name wins. Without a scale it is 1.

    Raises:
        ValueError: the scale is no number from -MOST_SCALE to MOST_SCALE; the message says so.
    """
    name, colon, number = text.rpartition(":")
    if not colon or not name or os.path.exists(text) or re.search(r"[/\\]", number):
        return text, 1.0
    try:
        scale = float(number)
    except ValueError:
        raise ValueError(f"the scale {number or 'after the colon'} is not a number") from None
    if not -MOST_SCALE <= scale <= MOST_SCALE:
        raise ValueError(f"the scale must be between {-MOST_SCALE:g} and {MOST_SCALE:g}, not {number}")
    return name, scale


def read_lora(text: str) -> LoraFile:
    """Read the LoRA that `FILE[:SCALE]` names.

    Raises:
        SettingsError: the scale is out of range.
        EmbeddingFileError: the file cannot be read, is no LoRA, is of another kind than the plain one, or holds values
            that are not finite; one line that names the file.
    """
    try:
        named, scale = split_scale(text)
    except ValueError as error:
        raise SettingsError(f"--lora {text}: {error}; write FILE:SCALE, such as style.safetensors:0.8") from error
    path = os.path.expanduser(named)
    tensors, metadata = read_weights(path, {NotAnEmbedding: "choose a LoRA, preferably a .safetensors"})
    grouped: dict[str, dict[str, np.ndarray]] = {}
    for name, tensor in tensors.items():
        layer, role = _layer_and_role(name, path)
        if role in grouped.setdefault(layer, {}):
            raise NotAnEmbedding(f"{file_name(path)}: holds two matrices for {quoted(layer, 120)}; save it again")
        grouped[layer][role] = tensor
    changes = {layer: _checked(layer, parts, path) for layer, parts in grouped.items()}
    is_paddle = metadata.get("format") in ("pd", "np") or Path(path).suffix == ".pdparams"
    return LoraFile(path, scale, user_files.sha256(path, user_files.WEIGHTS), changes, is_paddle)


def _layer_and_role(name: str, path: str) -> tuple[str, str]:
    """The layer that a tensor belongs to, and "down", "up" or "alpha"."""
    kind = next((kind for part, kind in _OTHER_KINDS if part in name), None)
    if kind is not None:
        raise NotAnEmbedding(f"{file_name(path)}: is {kind} ({quoted(name, 120)}); {_PLAIN_ONLY}")
    found = next((match for pattern in _NAMES if (match := pattern.fullmatch(name))), None)
    if found is None:
        raise NotAnEmbedding(f"{file_name(path)}: is no LoRA, since it holds {quoted(name, 120)}; {_PLAIN_ONLY}")
    layer, projection = found["path"], found.groupdict().get("projection")
    layer = layer.removesuffix(".processor")
    if projection:
        layer = f"{layer}.{_projection(layer, projection)}"
    return layer, _ROLES.get(found["role"], _ALPHA)


def _projection(layer: str, projection: str) -> str:
    """The name of an attention's projection in a text encoder, else in a U-Net."""
    if layer.startswith(("text_encoder.", "text_encoder_2.")):
        return f"{projection}_proj"
    return "to_out.0" if projection == "out" else f"to_{projection}"


def _checked(layer: str, parts: dict[str, Any], path: str) -> LowRank:
    where = f"{file_name(path)}: {quoted(layer, 120)}"
    if _DOWN not in parts or _UP not in parts:
        raise NotAnEmbedding(f"{where} has no {'up' if _DOWN in parts else 'down'} matrix; {_PLAIN_ONLY}")
    for part in parts.values():
        if part.dtype.kind != "f" and not (part.dtype.kind in "iu" and part.size == 1):
            raise WrongValues(f"{where} holds {part.dtype} values; save it again as float32 or float16")
        if not np.isfinite(part).all():
            raise WrongValues(f"{where} holds NaN or infinite values; it is broken, take another file")
    alpha = parts.get(_ALPHA)
    if alpha is not None and alpha.size != 1:
        raise WrongValues(f"{where} has an alpha of {alpha.size} values, where one is expected; {_PLAIN_ONLY}")
    down, up = (np.asarray(parts[role], np.float32) for role in (_DOWN, _UP))
    if math.prod(down.shape) == 0 or down.ndim != up.ndim or down.ndim not in (2, 4):
        shapes = " and ".join(str(list(one.shape)) for one in (down, up))
        raise WrongValues(f"{where} has matrices of the shapes {shapes}; {_PLAIN_ONLY}")
    return LowRank(down, up, None if alpha is None else float(alpha.reshape(())))
