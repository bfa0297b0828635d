"""Random weights of tiny models, and the files that both layouts keep them in.

The numbers come from a seed and the tensor's name, so that two layouts built with one seed are the same model.
"""

import zlib
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from helpers.tiny_tokenizers import write_json


class Store:
    """Writes parts with random weights in one layout."""

    def __init__(self, seed: int, layout: str, dtype: str, shards: int, variant: str | None):
        self.seed, self.layout, self.dtype, self.shards, self.variant = seed, layout, dtype, shards, variant

    def diffusion(self, folder: Path, module, config: dict, rename=None) -> None:
        torch = self.layout == "diffusers"
        version = {"_diffusers_version": "0.29.0"} if torch else {"_ppdiffusers_version": "0.29.0"}
        write_json(folder / "config.json", {"_class_name": type(module).__name__, **version, **config})
        name = "diffusion_pytorch_model.safetensors" if torch else "diffusion_paddle_model.safetensors"
        self._weights(folder, module, name, "pt" if torch else "pd", rename)

    def encoder(self, folder: Path, module, config: dict, rename=None) -> None:
        torch = self.layout == "diffusers"
        dtype = {"torch_dtype": self.dtype} if torch else {"dtype": self.dtype}
        write_json(folder / "config.json", {"architectures": [type(module).__name__], **dtype, **config})
        self._weights(folder, module, "model.safetensors", "pt" if torch else "np", rename)

    def _weights(self, folder: Path, module, name: str, form: str, rename) -> None:
        tensors = {}
        for key, array in random_state(module, self.seed, f"{folder.name}/").items():
            if self.layout == "diffusers" and key in _linear(module):
                array = array.T
            key, array = rename(key, array) if rename else (key, array)
            tensors[key] = np.ascontiguousarray(array.astype(self.dtype))
        stem = name.removesuffix(".safetensors") + (f".{self.variant}" if self.variant else "")
        if self.shards == 1:
            save_file(tensors, folder / f"{stem}.safetensors", metadata={"format": form})
            return
        names = sorted(tensors)
        weight_map = {}
        for number in range(self.shards):
            part = f"{stem}-{number + 1:05d}-of-{self.shards:05d}.safetensors"
            chosen = names[number :: self.shards]
            save_file({key: tensors[key] for key in chosen}, folder / part, metadata={"format": form})
            weight_map.update(dict.fromkeys(chosen, part))
        ending = f".index.{self.variant}.json" if self.variant else ".index.json"
        write_json(folder / f"{name}{ending}", {"metadata": {}, "weight_map": weight_map})


def random_state(module, seed: int, prefix: str = "") -> dict[str, np.ndarray]:
    """Random float32 values for all weights of a module, of sizes that keep signals alive; from seed and name."""
    state = {}
    for name, tensor in module.state_dict().items():
        generator = np.random.default_rng([seed, zlib.crc32(f"{prefix}{name}".encode())])
        array = generator.standard_normal(tensor.shape).astype(np.float32)
        if name.endswith("embeds_weights"):
            array = np.ones_like(array)  # thresholds on cosines: nothing is ever unsafe
        elif array.ndim < 2:
            array = 0.1 * array + (1.0 if "norm" in name and name.endswith("weight") else 0.0)
        elif "embedding" not in name or "linear" in name:
            fan_in = array.shape[0] if array.ndim == 2 else np.prod(array.shape[1:])
            array = array / np.sqrt(fan_in)
        state[name] = array.astype(np.float32)
    return state


def _linear(module) -> set[str]:
    from paddle import nn

    return {f"{name}.weight" for name, layer in module.named_sublayers() if isinstance(layer, nn.Linear)}


def old_attention(name: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        name = name.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
    return name, array
