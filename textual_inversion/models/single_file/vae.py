"""A VAE from a file of its own, in the original layout or in diffusers', as a folder in diffusers' layout."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from textual_inversion.formats.safetensors_file import write_tensors
from textual_inversion.models.single_file.convert import cache_folder
from textual_inversion.models.single_file.names import vae_name
from textual_inversion.models.weight_files import WeightFile
from textual_inversion.system import atomic
from textual_inversion.system.errors import BaseModelError, OutputError

_PREFIX = "first_stage_model."  # in whole models, and in VAEs that were cut out of one
_PARTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
_WEIGHTS = "diffusion_pytorch_model.safetensors"


def unpack_vae(path: Path, config: dict[str, Any], cache_dir: str | Path | None = None) -> Path:
    """The folder of a VAE that is one file, made where it does not exist yet.

    Args:
        path: a safetensors file of a VAE, or of a whole model.
        config: of the base model's own VAE, which this one must be built like; the file says nothing of it.
        cache_dir: where the folder is kept; None for `~/.cache/textual_inversion`.

    Raises:
        BaseModelError: the file is damaged, or holds no VAE.
        OutputError: the folder cannot be written.
    """
    stat, home = path.stat(), cache_folder(cache_dir)
    identity = json.dumps([str(path.resolve()), stat.st_size, stat.st_mtime_ns, config], sort_keys=True, default=str)
    folder = home / f"{path.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    if (folder / _WEIGHTS).is_file():
        return folder
    file = WeightFile(path)
    names = _diffusers_names(file, len(config["block_out_channels"]))
    try:
        atomic.make_folder(folder.parent)
        with atomic.fill_folder(folder) as temporary:
            _write(file, names, config, temporary)
    except (OSError, OutputError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"cannot unpack {path} into {home} ({reason}); choose another --cache_dir") from error
    return folder


def _diffusers_names(file: WeightFile, blocks: int) -> dict[str, str]:
    """Diffusers' name of each weight of the VAE -> the file's."""
    prefix = _PREFIX if any(name.startswith(_PREFIX) for name in file) else ""
    stored = [name for name in file if name.startswith(tuple(prefix + part for part in _PARTS))]
    if not any(name.startswith(f"{prefix}decoder.") for name in stored):
        raise BaseModelError(
            f"--vae {file.path} holds no VAE (none of its tensors is named decoder.… or {_PREFIX}decoder.…); choose "
            "another file"
        )
    if any(".down_blocks." in name or ".mid_block." in name for name in stored):
        return {name.removeprefix(prefix): name for name in stored}
    names = {vae_name(name.removeprefix(prefix), blocks): name for name in stored}
    return {new: name for new, name in names.items() if new is not None}


def _write(file: WeightFile, names: dict[str, str], config: dict[str, Any], folder: Path) -> None:
    shapes = {new: _shape(new, file.shape(name)) for new, name in names.items()}

    def read(new: str) -> np.ndarray:
        return file[names[new]].reshape(shapes[new])

    atomic.write_json(folder / "config.json", config)
    with open(os.path.join(folder, _WEIGHTS), "wb") as out:
        write_tensors(out, shapes, read, {"format": "pt"})


def _shape(name: str, stored: tuple[int, ...]) -> tuple[int, ...]:
    """The original code has 1x1 convolutions where diffusers has linear layers."""
    return stored[:2] if ".attentions." in name and stored[2:] == (1, 1) else stored
