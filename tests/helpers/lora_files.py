"""LoRA files of tiny models, in the names and layouts of several programs."""

import re

import numpy as np
from paddle import nn

from textual_inversion.formats.safetensors_file import safetensors_bytes

RANK = 2
# Layers of a tiny model of Stable Diffusion 1 that a LoRA changes: attention, feed-forward, convolutions.
UNET = [
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0",
    "mid_block.attentions.0.transformer_blocks.0.attn2.to_k",
    "mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj",
    "mid_block.attentions.0.proj_in",
    "up_blocks.1.resnets.0.conv1",
    "up_blocks.0.resnets.0.time_emb_proj",
]
TEXT = ["text_model.encoder.layers.0.self_attn.q_proj", "text_model.encoder.layers.1.mlp.fc1"]


def matrices(layer: nn.Layer, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random down and up matrices for a layer, laid out as PyTorch's."""
    random = np.random.default_rng(seed)
    shape = tuple(layer.weight.shape)
    if isinstance(layer, nn.Conv2D):
        down, up = (RANK, *shape[1:]), (shape[0], RANK, 1, 1)
    else:
        down, up = (RANK, shape[0]), (shape[1], RANK)
    return tuple(random.standard_normal(one).astype(np.float32) * 0.1 for one in (down, up))


def chosen(model, unet=UNET, text=TEXT) -> dict[tuple[str, str], nn.Layer]:
    """(part, path) -> layer of a model."""
    found = {("unet", path): dict(model.unet.named_sublayers())[path] for path in unet}
    for encoder in model.text_encoders:
        found |= {(encoder.name, path): dict(encoder.layer.named_sublayers())[path] for path in text}
    return found


def kohya(layers: dict, alpha: float | None = 1.0) -> dict[str, np.ndarray]:
    """As kohya's scripts write them."""
    two = any(part == "text_encoder_2" for part, _ in layers)
    prefix = {"unet": "lora_unet_", "text_encoder": "lora_te1_" if two else "lora_te_", "text_encoder_2": "lora_te2_"}
    tensors = {}
    for seed, ((part, path), layer) in enumerate(layers.items()):
        stem = prefix[part] + path.replace(".", "_")
        tensors[f"{stem}.lora_down.weight"], tensors[f"{stem}.lora_up.weight"] = matrices(layer, seed)
        if alpha is not None:
            tensors[f"{stem}.alpha"] = np.float32(alpha).reshape(())
    return tensors


def diffusers(layers: dict, form: str = "lora") -> dict[str, np.ndarray]:
    """As diffusers writes them: form "lora", "processor" (older), "bare" (older still, U-Net only) or "peft"."""
    tensors = {}
    for seed, ((part, path), layer) in enumerate(layers.items()):
        for role, matrix in zip(("down", "up"), matrices(layer, seed), strict=True):
            tensors[_diffusers_name(part, path, role, form)] = matrix
    return tensors


def _diffusers_name(part: str, path: str, role: str, form: str) -> str:
    attention = re.fullmatch(r"(.+)\.(?:to_(q|k|v)|(q|k|v)_proj|(to_out\.0|out_proj))", path)
    if form in ("processor", "bare") and attention:
        projection = attention[2] or attention[3] or "out"
        processor = ".processor" if part == "unet" else ""
        name = f"{part}.{attention[1]}{processor}.to_{projection}_lora.{role}.weight"
    elif form == "peft":
        name = f"{part}.{path}.lora_{'A' if role == 'down' else 'B'}.weight"
    else:
        name = f"{part}.{path}.{'lora' if part == 'unet' else 'lora_linear_layer'}.{role}.weight"
    return name.removeprefix("unet.") if form == "bare" else name


def transposed(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same matrices as ppdiffusers lays them out."""
    return {name: tensor.T if tensor.ndim == 2 else tensor for name, tensor in tensors.items()}


def write_lora(path, tensors: dict[str, np.ndarray], **metadata: str) -> str:
    """Write a safetensors file and return its path."""
    path.write_bytes(safetensors_bytes(tensors, metadata))
    return str(path)
