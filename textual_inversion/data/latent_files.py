"""Posteriors of the VAE on disk, so that a resumed or repeated run does not encode its images again.

A file holds the posterior of one image. Its name is a hash of all that decides it: the pixels that the VAE sees (so
whatever resized, cropped or mirrored them counts), the VAE's configuration and weights, the number of images in a
batch, and the machine's arithmetic. What is read is the same as what would be encoded, bit for bit. A file that is
damaged, or that holds something else than its name says, is told and never used.
"""

import hashlib
import json
import math
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

from textual_inversion.data.image_folder import listed
from textual_inversion.formats.errors import EmbeddingFileError
from textual_inversion.formats.safetensors_file import SafetensorsFile, safetensors_bytes
from textual_inversion.system import atomic, user_files
from textual_inversion.system.errors import OutputError

_FORMAT = "textual-inversion latents 1"
_LONGEST_HEADER = 1 << 16  # bytes
_DECODER = ("decoder.", "post_quant_conv.")

Posterior = tuple[np.ndarray, np.ndarray]


def make_folder(folder: str | Path) -> None:
    """Make the folder of `LatentFiles` unless it exists; raises OutputError."""
    try:
        atomic.make_folder(folder)
    except OutputError as error:
        raise OutputError(f"--cache_latents_dir {folder} cannot be made ({error}); name another folder") from None


class LatentFiles:
    """The posteriors in one folder. Any number of processes may use it at a time.

    Args:
        folder: exists, see `make_folder`.
        vae: what encodes; its configuration and weights count.
        factor: pixels per latent, along each side.
        note: called with a line about files that cannot be used or written.

    Attributes:
        found: how many posteriors were read.
    """

    def __init__(self, folder: str | Path, vae: nn.Layer, factor: int, note: Callable[[str], None]):
        self._folder, self._note = Path(folder), note
        self._channels, self._factor = int(vae.config.latent_channels), factor
        self._encoder = encoder_digest(vae)
        self._unusable: list[str] = []
        self._can_write = True
        self.found = 0

    def key(self, pixels: np.ndarray, batch_size: int) -> str:
        """The name under which the posterior of an image is kept.

        Args:
            pixels: float32 [3, H, W], as the VAE sees them.
            batch_size: images that are encoded together, which can change the last bits.
        """
        whole = hashlib.sha256(f"{_FORMAT} {self._encoder} {batch_size} {pixels.shape} ".encode())
        whole.update(np.ascontiguousarray(pixels, dtype="<f4").data)
        return whole.hexdigest()

    def read(self, key: str, size: tuple[int, int]) -> Posterior | None:
        """Mean and std, float32 [C, H, W]; None where there is no file that can be used.

        Args:
            size: (height, width) of the image in pixels.
        """
        path = self._path(key)
        if not os.path.lexists(path):
            return None
        try:
            found = _read(path, key, (self._channels, size[0] // self._factor, size[1] // self._factor))
        except (OSError, ValueError, EmbeddingFileError):
            self._unusable.append(path.name)
            return None
        self.found += 1
        return found

    def write(self, key: str, mean: np.ndarray, std: np.ndarray) -> None:
        """Keep a posterior. If that fails, a line says so, and nothing more is written."""
        if not self._can_write:
            return
        metadata = {"format": _FORMAT, "key": key, "checksum": _checksum(mean, std)}
        try:
            atomic.write_bytes(self._path(key), safetensors_bytes({"mean": mean, "std": std}, metadata))
        except OutputError as error:
            self._can_write = False
            self._note(f"note: latents are no longer kept in --cache_latents_dir: {error}")

    def tell(self, total: int) -> None:
        """Say how many posteriors of `total` were found, and which files could not be used."""
        if self._unusable:
            self._note(
                f"note: {self._folder}: {len(self._unusable)} file(s) are damaged or hold something else, and their "
                f"images are encoded again: {listed(self._unusable)}"
            )
        self._note(f"{self.found} of {total} latents are from {self._folder}, {total - self.found} are encoded")

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.safetensors"


def encoder_digest(vae: nn.Layer) -> str:
    """A hash of all that decides a posterior besides the image: the VAE's encoder and the arithmetic."""
    whole = hashlib.sha256(json.dumps(_circumstances(vae), sort_keys=True, default=str).encode())
    tensors = dict(vae.named_parameters()) | dict(vae.named_buffers())
    for name in sorted(tensors):
        if name.startswith(_DECODER):
            continue
        values = tensors[name]
        whole.update(f"{name} {values.dtype} {list(values.shape)} ".encode())
        exact = values.astype("float32") if values.dtype in (paddle.float16, paddle.bfloat16) else values
        whole.update(np.ascontiguousarray(exact.numpy()).data)
    return whole.hexdigest()


def _circumstances(vae: nn.Layer) -> dict[str, Any]:
    config = {name: value for name, value in dict(vae.config).items() if not name.startswith("_")}
    parts = ("use_slicing", "use_tiling", "tile_sample_min_size", "tile_latent_min_size", "tile_overlap_factor")
    device = paddle.device.get_device().split(":")[0]
    if device == "cpu":
        arithmetic = [_processor(), *(os.environ.get(n) for n in ("OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE"))]
    elif device == "gpu":
        arithmetic = [paddle.device.cuda.get_device_name(), os.environ.get("NVIDIA_TF32_OVERRIDE")]
    else:
        arithmetic = []
    return {
        "config": config,
        "in parts": {name: getattr(vae, name, None) for name in parts},
        "device": [device, *arithmetic],
        "paddle": paddle.__version__,
    }


def _read(path: Path, key: str, shape: tuple[int, int, int]) -> Posterior:
    """Raises OSError, ValueError or EmbeddingFileError unless the file is whole and belongs to the key."""
    data = memoryview(user_files.read_bytes(path, _LONGEST_HEADER + 8 * math.prod(shape)))
    file = SafetensorsFile(len(data), lambda begin, end: data[begin:end], _LONGEST_HEADER)
    if set(file) != {"mean", "std"} or file.data_types != {"F32"} or {file.shape(name) for name in file} != {shape}:
        raise ValueError("other tensors")
    mean, std = (np.array(file[name]) for name in ("mean", "std"))
    if file.metadata != {"format": _FORMAT, "key": key, "checksum": _checksum(mean, std)}:
        raise ValueError("of something else")
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std >= 0).all()):
        raise ValueError("no posterior")
    return mean, std


def _checksum(mean: np.ndarray, std: np.ndarray) -> str:
    whole = hashlib.sha256(f"{mean.shape} {std.shape} ".encode())
    for array in (mean, std):
        whole.update(np.ascontiguousarray(array, "<f4").data)
    return whole.hexdigest()


def _processor() -> str:
    """The model of the CPU where the system names it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
