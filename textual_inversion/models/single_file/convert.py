"""Unpack a single-file checkpoint, as AUTOMATIC1111 uses, into a folder in the diffusers layout.

The folder is in a cache and is made once per file; the file itself is only read. Nothing is downloaded: the shapes of
the weights give the configurations. Such a file holds no tokenizer, which must come from elsewhere.
"""

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from textual_inversion.formats.safetensors_file import write_tensors
from textual_inversion.models.single_file import configs
from textual_inversion.models.single_file.names import open_clip_name, unet_name, vae_name
from textual_inversion.models.weight_files import WeightFile, read_bytes
from textual_inversion.system import atomic
from textual_inversion.system.errors import BaseModelError, OutputError

_UNET, _VAE = "model.diffusion_model.", "first_stage_model."
_CLIP, _OPEN_CLIP = "cond_stage_model.transformer.", "cond_stage_model.model."
_XL_CLIP, _XL_OPEN_CLIP = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
# What such files hold besides the model: tables of the noise schedule, averaged copies, marks of training programs.
_BESIDES = re.compile(r"[a-z_0-9]+|model_ema\..*|denoiser\.sigmas|.*\.(position_ids|logit_scale)")
_TOKENIZER_CONFIG = {"model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}


@dataclass(frozen=True)
class Tensor:
    """A weight as the folder will hold it, read from the file when it is written.

    Attributes:
        shape: as the folder will hold it.
        read: gives the values, in this shape or one of as many values.
    """

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


@dataclass
class Parts:
    """The parts of the model that a folder will hold.

    Attributes:
        weights: part -> its weights by diffusers' names.
        configs: part -> its configuration.
        index: content of model_index.json.
    """

    weights: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    index: dict[str, Any] = field(default_factory=dict)


def unpack(path: Path, cache_dir: str | Path | None = None) -> Path:
    """The folder of a single-file checkpoint, made where it does not exist yet.

    Args:
        cache_dir: where the folder is kept; None for `~/.cache/textual_inversion`.

    Raises:
        BaseModelError: the file is damaged, is no whole Stable Diffusion model, cannot be trained, or does not say what
            its U-Net predicts.
        OutputError: the folder cannot be written.
    """
    stat, home = path.stat(), cache_folder(cache_dir)
    yaml_file = path.with_suffix(".yaml")
    configuration = read_bytes(yaml_file) if os.path.lexists(yaml_file) else b""
    identity = repr((str(path.resolve()), stat.st_size, stat.st_mtime_ns, configuration))
    key = hashlib.sha256(identity.encode()).hexdigest()[:16]
    folder = home / f"{path.stem}-{key}"
    if (folder / "model_index.json").is_file():
        return folder
    parts = read_parts(path, configuration.decode("utf-8", "replace"))
    try:
        _put(parts, folder)
    except (OSError, OutputError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"cannot unpack {path} into {home} ({reason}); choose another --cache_dir") from error
    return folder


def cache_folder(cache_dir: str | Path | None) -> Path:
    """Where unpacked files are kept: the folder that the user names, else `~/.cache/textual_inversion`."""
    return Path(cache_dir or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "textual_inversion")


def _put(parts: Parts, folder: Path) -> None:
    """Write the parts so that the folder appears complete or not at all."""
    atomic.make_folder(folder.parent)
    with atomic.fill_folder(folder) as temporary:
        _write(parts, temporary)


def read_parts(path: Path, configuration: str = "") -> Parts:
    """Sort the weights of a file into parts, under diffusers' names.

    Args:
        configuration: content of the .yaml file beside it, "" where there is none.

    Raises:
        BaseModelError: see `unpack`.
    """
    file = WeightFile(path)
    names = list(file)
    if not any(name.startswith(_UNET) for name in names):
        raise BaseModelError(
            f"{path} holds no whole Stable Diffusion model (none of its tensors is named {_UNET}…); LoRA, VAE and "
            "embedding files are not base models, choose another file"
        )
    is_xl, is_second = (any(name.startswith(prefix) for name in names) for prefix in (_XL_OPEN_CLIP, _OPEN_CLIP))
    if not is_xl and not is_second and not any(name.startswith(_CLIP) for name in names):
        raise BaseModelError(
            f"{path} holds no text encoder of Stable Diffusion 1.x, 2.x or XL base; choose another file"
        )
    prediction = _prediction(path, file, configuration, wanted=is_second)
    parts, taken = Parts(), set()
    size = 128 if is_xl else 96 if is_second and prediction == "v_prediction" else 64
    _take_unet_and_vae(parts, file, taken, size, 0.13025 if is_xl else 0.18215)
    if is_xl:
        _take_clip(parts, file, taken, _XL_CLIP, "text_encoder")
        _take_open_clip(parts, file, taken, _XL_OPEN_CLIP, "text_encoder_2", whole=True)
    elif is_second:
        _take_open_clip(parts, file, taken, _OPEN_CLIP, "text_encoder", whole=False)
    else:
        _take_clip(parts, file, taken, _CLIP, "text_encoder")
    strange = [name for name in names if name not in taken and not _BESIDES.fullmatch(name)]
    if strange:
        raise BaseModelError(
            f"{path} holds the tensor {strange[0]} (and {len(strange) - 1} more), which no model of its kind has; it "
            "cannot be trained, choose another file"
        )
    _add_configs(parts, is_xl, is_second, prediction)
    return parts


def _prediction(path: Path, file: WeightFile, configuration: str, *, wanted: bool) -> str:
    """What the U-Net predicts: as the file or the .yaml beside it says, else epsilon unless that is uncertain."""
    declared = file.metadata.get("modelspec.prediction_type", "")
    if "v_pred" in file or declared.startswith("v") or re.search(r"parameterization:\s*[\"']?v\b", configuration):
        return "v_prediction"
    if wanted and not declared and not configuration:
        raise BaseModelError(
            f"{path} is a Stable Diffusion 2 model and does not say whether it predicts noise or v; put the .yaml file "
            f"that came with it beside it, as {path.with_suffix('.yaml').name}"
        )
    return "epsilon"


def _take_unet_and_vae(parts: Parts, file: WeightFile, taken: set[str], size: int, scaling: float) -> None:
    for part, prefix in (("unet", _UNET), ("vae", _VAE)):
        names = [name.removeprefix(prefix) for name in file if name.startswith(prefix)]
        try:
            if part == "unet":
                layers = configs.unet_layers(names)
                parts.configs[part] = configs.unet_config(names, lambda name: file.shape(_UNET + name), size)
                renamed = {name: unet_name(name, layers) for name in names}
            else:
                parts.configs[part] = configs.vae_config(names, lambda name: file.shape(_VAE + name), size * 8, scaling)
                blocks = len(parts.configs[part]["block_out_channels"])
                renamed = {name: vae_name(name, blocks) for name in names}
        except KeyError as error:
            raise BaseModelError(f"{file.path} lacks the tensor {error.args[0]}; download it again") from error
        parts.weights[part] = {}
        for name, new in renamed.items():
            if new is not None:
                taken.add(prefix + name)
                parts.weights[part][new] = _tensor(file, prefix + name, flat=part == "vae" and ".attentions." in new)


def _tensor(file: WeightFile, name: str, *, flat: bool = False) -> Tensor:
    """A weight as the file holds it; `flat` makes a linear layer of a 1x1 convolution."""
    shape = file.shape(name)
    return Tensor(shape[:2] if flat else shape, lambda: file[name])


def _take_clip(parts: Parts, file: WeightFile, taken: set[str], prefix: str, part: str) -> None:
    found = {name.removeprefix(prefix): name for name in file if name.startswith(prefix)}
    weights = {}
    for name, stored in found.items():
        if not name.endswith("position_ids"):
            weights[name if name.startswith("text_model.") else f"text_model.{name}"] = _tensor(file, stored)
            taken.add(stored)
    _add_encoder(parts, file, part, weights, "quick_gelu")


def _take_open_clip(parts: Parts, file: WeightFile, taken: set[str], prefix: str, part: str, *, whole: bool) -> None:
    """Take an OpenCLIP encoder; Stable Diffusion 2 uses neither its last layer nor its projection (`whole` False)."""
    names = [name for name in file if name.startswith(prefix)]
    last = configs.count(names, re.escape(prefix) + r"transformer\.resblocks\.(\d+)\.") - 1
    weights: dict[str, Tensor] = {}
    for name in names:
        new = open_clip_name(name.removeprefix(prefix))
        if new is None:
            continue
        taken.add(name)
        if not whole and (f".layers.{last}." in new or new == "text_projection.weight"):
            continue
        if ".qkv." in new:
            weights |= _thirds(file, name, new)
        elif new == "text_projection.weight":  # [D, P], where a linear layer holds [P, D]
            weights[new] = Tensor(file.shape(name)[::-1], lambda name=name: file[name].T)
        else:
            weights[new] = _tensor(file, name)
    _add_encoder(parts, file, part, weights, "gelu")


def _thirds(file: WeightFile, name: str, new: str) -> dict[str, Tensor]:
    """Query, key and value, which OpenCLIP keeps in one weight [3 D, …]."""
    triple, *rest = file.shape(name)
    third, tensors = triple // 3, {}
    for number, letter in enumerate("qkv"):
        part = slice(number * third, (number + 1) * third)
        tensors[new.replace(".qkv.", f".{letter}_proj.")] = Tensor((third, *rest), lambda part=part: file[name][part])
    return tensors


def _add_encoder(parts: Parts, file: WeightFile, part: str, weights: Mapping[str, Tensor], activation: str) -> None:
    parts.weights[part] = dict(weights)
    try:
        parts.configs[part] = configs.clip_config(list(weights), lambda name: weights[name].shape, activation)
    except KeyError as error:
        raise BaseModelError(f"{file.path} lacks the text encoder's {error.args[0]}; download it again") from error


def _add_configs(parts: Parts, is_xl: bool, is_second: bool, prediction: str) -> None:
    scheduler = "EulerDiscreteScheduler" if is_xl else "DDIMScheduler" if is_second else "PNDMScheduler"
    parts.configs["scheduler"] = configs.SCHEDULER | {"_class_name": scheduler, "prediction_type": prediction}
    if scheduler == "EulerDiscreteScheduler":
        parts.configs["scheduler"]["timestep_spacing"] = "leading"
    else:
        parts.configs["scheduler"] |= {"set_alpha_to_one": False, "skip_prk_steps": True}
    # The first encoder of SDXL and that of Stable Diffusion 1 pad with the end token, OpenCLIP's with "!".
    parts.configs["tokenizer"] = _TOKENIZER_CONFIG | {"pad_token": "!" if is_second else "<|endoftext|>"}
    kinds = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "scheduler": scheduler}
    parts.index = {name: ["diffusers", kind] for name, kind in kinds.items()}
    parts.index |= {"text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"]}
    parts.index["_class_name"] = "StableDiffusionXLPipeline" if is_xl else "StableDiffusionPipeline"
    if is_xl:
        parts.configs["tokenizer_2"] = _TOKENIZER_CONFIG | {"pad_token": "!"}
        parts.index["text_encoder_2"] = ["transformers", "CLIPTextModelWithProjection"]
        parts.index["tokenizer_2"] = ["transformers", "CLIPTokenizer"]
        parts.index["force_zeros_for_empty_prompt"] = True


def _write(parts: Parts, folder: Path) -> None:
    names = {"scheduler": "scheduler_config.json", "tokenizer": "tokenizer_config.json"}
    names["tokenizer_2"] = names["tokenizer"]
    for part, config in parts.configs.items():
        (folder / part).mkdir()
        atomic.write_json(folder / part / names.get(part, "config.json"), config)
    for part, weights in parts.weights.items():
        name = "model" if part.startswith("text") else "diffusion_pytorch_model"
        with open(folder / part / f"{name}.safetensors", "wb") as file:
            shapes = {name: tensor.shape for name, tensor in weights.items()}
            write_tensors(file, shapes, lambda name, weights=weights: weights[name].read(), {"format": "pt"})
    atomic.write_json(folder / "model_index.json", parts.index)
