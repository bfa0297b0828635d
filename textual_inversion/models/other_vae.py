"""A VAE other than the base model's own: where it is, and whether it can take the own one's part.

The U-Net works on the latents of the VAE that it was trained with. Another one is of use only where it was trained to
make the same latents, such as the fine-tuned decoders of Stable Diffusion: with as many channels, as many pixels per
latent, and the same scale.
"""

from pathlib import Path
from typing import Any

from textual_inversion.formats.errors import printable
from textual_inversion.models.config_checks import check_blocks, check_sample_size
from textual_inversion.models.hub import resolve_vae, vae_within
from textual_inversion.models.single_file.vae import unpack_vae
from textual_inversion.models.weight_files import WeightFile, read_json
from textual_inversion.system.errors import BaseModelError
from textual_inversion.system.paths import is_possible_path, is_single_file

_SCALING = 0.18215  # what diffusers takes where a configuration says nothing
_OTHER = "choose one that was made for this base model"


def find_vae(name: str | Path, own: dict[str, Any], channels: int, **source: Any) -> Path:
    """The folder of a VAE, with its config.json and its weights, that fits a base model.

    Args:
        name: a folder, of a VAE or of a whole model; a safetensors file, in diffusers' layout or the original one; or a
            repository id.
        own: the configuration of the base model's own VAE.
        channels: of the latents that the U-Net takes.
        source: `cache_dir`, `token`, `variant` and `recorded_in`, as for `hub.resolve`.

    Raises:
        BaseModelError: there is no such VAE, it is damaged, or it is made for other latents.
        OutputError: a file cannot be unpacked.
    """
    text = str(name)
    path = Path(text).expanduser() if is_possible_path(text) else None
    if path is not None and is_single_file(path):
        _check_file(path, channels)
        folder = unpack_vae(path, own, source.get("cache_dir"))
    elif path is not None and path.is_dir():
        folder = vae_within(path)
        if folder is None:
            raise BaseModelError(f"--vae {text}: neither it nor a vae folder in it holds config.json and weights")
    elif path is not None and path.is_file():
        raise BaseModelError(f"--vae {text} is no .safetensors file; give one, a folder, or a repository id")
    else:
        folder = resolve_vae(text, **source)
    _check(read_json(folder / "config.json"), own, channels, folder)
    return folder


def fetch_vae(name: str, **source: Any) -> None:
    """Download a VAE that a repository id names, so that other processes find it; `source` as for `find_vae`."""
    if not (is_possible_path(name) and Path(name).expanduser().exists()):
        resolve_vae(name, **source)


def _check_file(path: Path, channels: int) -> None:
    """Refuse a file for latents of other channels by name, where its shapes would be refused one by one."""
    file = WeightFile(path)
    name = next((name for name in file if name.endswith("decoder.conv_in.weight")), None)
    if name is not None and file.shape(name)[1:2] != (channels,):
        raise BaseModelError(
            f"--vae {path} makes latents of {file.shape(name)[1]} channels, and the U-Net takes {channels}; {_OTHER}"
        )


def _check(config: dict[str, Any], own: dict[str, Any], channels: int, folder: Path) -> None:
    """Refuse a VAE for other latents than the base model's own makes; raises BaseModelError."""
    kind = config.get("_class_name", "AutoencoderKL")
    if kind != "AutoencoderKL":
        raise BaseModelError(f"--vae {folder} is a {printable(str(kind), 40)}, not an AutoencoderKL; {_OTHER}")
    check_blocks(config, folder)
    check_sample_size(config, "vae", folder)
    made = config.get("latent_channels", 4)
    if made != channels:
        raise BaseModelError(
            f"--vae {folder} makes latents of {made} channels, and the U-Net takes {channels}; {_OTHER}"
        )
    pixels, wanted = (2 ** (len(one["block_out_channels"]) - 1) for one in (config, own))
    if pixels != wanted:
        raise BaseModelError(
            f"--vae {folder} makes a latent of {pixels} x {pixels} pixels, and the U-Net's are of {wanted} x {wanted}; "
            f"{_OTHER}"
        )
    scale, wanted = (one.get("scaling_factor") or _SCALING for one in (config, own))
    if scale != wanted:
        raise BaseModelError(
            f"--vae {folder} scales its latents by {scale}, and the U-Net was trained with {wanted}: it is of another "
            f"kind of model; {_OTHER}"
        )
