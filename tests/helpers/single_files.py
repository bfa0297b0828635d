"""Tiny base models as single files, named as the original code of Stable Diffusion names its weights."""

import re
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from helpers.tiny_models import build_model

# What the shapes of weights do not show, as the original models have it.
_COMMON = dict(norm_num_groups=32)
SHAPES = {
    "sd1": dict(
        unet=_COMMON | dict(attention_head_dim=8, cross_attention_dim=64),
        text=dict(hidden_size=64, num_attention_heads=1),
    ),
    "sd2": dict(
        unet=_COMMON | dict(block_out_channels=[64, 128], attention_head_dim=[1, 2], cross_attention_dim=64),
        text=dict(hidden_size=64, num_attention_heads=1),
    ),
    "sdxl": dict(
        unet=_COMMON
        | dict(block_out_channels=[64, 128], attention_head_dim=[1, 2], cross_attention_dim=128)
        | dict(addition_time_embed_dim=256, projection_class_embeddings_input_dim=24 + 6 * 256),
        text=dict(hidden_size=64, num_attention_heads=1),
    ),
}
_RESNET = dict(norm1="in_layers.0", conv1="in_layers.2", time_emb_proj="emb_layers.1", norm2="out_layers.0")
_RESNET |= dict(conv2="out_layers.3", conv_shortcut="skip_connection")
_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_OPEN_CLIP = dict(layer_norm1="ln_1", layer_norm2="ln_2")
_OPEN_CLIP |= {"mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj", "self_attn.out_proj": "attn.out_proj"}


def build_single_file(folder: Path, family: str) -> tuple[Path, Path]:
    """(a base model as a folder, the same as one file)."""
    base = build_model(
        folder / "base", family, "diffusers", vae=dict(block_out_channels=[32, 64], **_COMMON), **SHAPES[family]
    )
    tensors = {f"model.diffusion_model.{unet(name)}": value for name, value in weights(base, "unet").items()}
    tensors |= {f"first_stage_model.{vae(name)}": square(name, v) for name, v in weights(base, "vae").items()}
    first = weights(base, "text_encoder")
    if family == "sd2":
        tensors |= open_clip(first, "cond_stage_model.model.", more_layers=True)
    else:
        prefix = "conditioner.embedders.0.transformer." if family == "sdxl" else "cond_stage_model.transformer."
        tensors |= {prefix + name: value for name, value in first.items()}
        tensors[f"{prefix}text_model.embeddings.position_ids"] = np.arange(77)[None]
    if family == "sdxl":
        tensors |= open_clip(weights(base, "text_encoder_2"), "conditioner.embedders.1.model.")
    tensors |= {"alphas_cumprod": np.ones(1000, np.float32), "model_ema.decay": np.float32([0.5])}
    path = folder / "model.safetensors"
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path)
    if family == "sd2":
        path.with_suffix(".yaml").write_text('model:\n  params:\n    parameterization: "v"\n')
    return base, path


def weights(base: Path, part: str) -> dict[str, np.ndarray]:
    return load_file(next((base / part).glob("*.safetensors")))


def unet(name: str) -> str:
    """With one resnet in a down block, two in an up block."""
    path, _, ending = name.rpartition(".")
    if path in _ENDS:
        return f"{_ENDS[path]}.{ending}"
    if match := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", name):
        number = 1 if match[1] == "attentions" else 2 * int(match[2])
        return f"middle_block.{number}.{inside(match[1], match[3])}"
    if match := re.fullmatch(r"down_blocks\.(\d)\.downsamplers\.0\.conv\.(\w+)", name):
        return f"input_blocks.{2 + 2 * int(match[1])}.0.op.{match[2]}"
    if match := re.fullmatch(r"up_blocks\.(\d)\.upsamplers\.0\.conv\.(\w+)", name):
        return f"output_blocks.{1 + 2 * int(match[1])}.2.conv.{match[2]}"  # 1 where no attention stands before it
    side, block, kind, layer, rest = re.fullmatch(
        r"(down|up)_blocks\.(\d)\.(resnets|attentions)\.(\d)\.(.+)", name
    ).groups()
    number = 1 + 2 * int(block) + int(layer) if side == "down" else 2 * int(block) + int(layer)
    return f"{'input' if side == 'down' else 'output'}_blocks.{number}.{int(kind == 'attentions')}.{inside(kind, rest)}"


def inside(kind: str, rest: str) -> str:
    path, _, ending = rest.rpartition(".")
    return rest if kind == "attentions" else f"{_RESNET[path]}.{ending}"


def vae(name: str) -> str:
    """With two blocks."""
    for new, old in (("mid_block.resnets.0", "mid.block_1"), ("mid_block.resnets.1", "mid.block_2")):
        name = name.replace(new, old)
    for new, old in (("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
        name = name.replace(f"mid_block.attentions.0.{new}.", f"mid.attn_1.{old}.")
    name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets", lambda m: f"up.{1 - int(m[1])}.block", name)
    name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{1 - int(m[1])}.upsample", name)
    return name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")


def square(name: str, value: np.ndarray) -> np.ndarray:
    """The VAE's attention as 1x1 convolutions."""
    return value[:, :, None, None] if "attentions" in name and value.ndim == 2 else value


def open_clip(state: dict[str, np.ndarray], prefix: str, *, more_layers: bool = False) -> dict[str, np.ndarray]:
    """`more_layers`: with a last layer and a projection that Stable Diffusion 2 does not read."""
    width = state["text_model.final_layer_norm.weight"].shape[0]
    found = {
        "positional_embedding": state["text_model.embeddings.position_embedding.weight"],
        "token_embedding.weight": state["text_model.embeddings.token_embedding.weight"],
        "logit_scale": np.float32(4.6),
    }
    found |= {f"ln_final.{end}": state[f"text_model.final_layer_norm.{end}"] for end in ("weight", "bias")}
    layers = 1 + max(int(m[1]) for name in state if (m := re.match(r"text_model\.encoder\.layers\.(\d+)", name)))
    for number in range(layers + more_layers):
        place, old = f"transformer.resblocks.{number}", f"text_model.encoder.layers.{min(number, layers - 1)}"
        for end in ("weight", "bias"):
            found |= {f"{place}.{to}.{end}": state[f"{old}.{name}.{end}"] for name, to in _OPEN_CLIP.items()}
            parts = [state[f"{old}.self_attn.{letter}_proj.{end}"] for letter in "qkv"]
            found[f"{place}.attn.in_proj_{end}"] = np.concatenate(parts)
    projection = state.get("text_projection.weight", np.ones((width, width), np.float32))
    return {prefix + name: value for name, value in found.items()} | {f"{prefix}text_projection": projection.T}
