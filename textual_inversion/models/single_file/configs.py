"""Configurations of the parts of a single-file checkpoint, derived from the shapes of its weights.

What shapes do not show is the same in all original models: 8 heads where the U-Net's attention begins with a
convolution (Stable Diffusion 1), else 64 channels per head, as in all their text encoders; 32 groups per group norm.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

Shape = Callable[[str], tuple[int, ...]]

_CHANNELS_PER_HEAD = 64
_SINUSOID_WIDTH = 256  # of each of the six sizes and crops that Stable Diffusion XL is conditioned on
SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "clip_sample": False,
}


def count(names: Iterable[str], pattern: str) -> int:
    """How many layers there are: one more than the largest number that the pattern's group matches; 0 for no match."""
    return max((int(match[1]) for name in names if (match := re.match(pattern, name))), default=-1) + 1


def unet_layers(names: Iterable[str]) -> int:
    """Resnets in a down block; the first downsampler comes right after them."""
    numbers = [int(match[1]) for name in names if (match := re.match(r"input_blocks\.(\d+)\.0\.op\.weight", name))]
    return min(numbers, default=3) - 1


def unet_config(names: list[str], shape: Shape, sample_size: int) -> dict[str, Any]:
    """The configuration of a UNet2DConditionModel; names and shapes are those of the original code."""
    layers = unet_layers(names)
    first = range(1, count(names, r"input_blocks\.(\d+)\."), layers + 1)
    channels = [shape(f"input_blocks.{i}.0.in_layers.2.weight")[0] for i in first]
    depths = [count(names, rf"input_blocks\.{i}\.1\.transformer_blocks\.(\d+)\.") for i in first]
    entrance = shape("middle_block.1.proj_in.weight")
    inner = shape("middle_block.1.transformer_blocks.0.attn2.to_k.weight")
    linear = len(entrance) == 2
    config = {
        "sample_size": sample_size,
        "in_channels": shape("input_blocks.0.0.weight")[1],
        "out_channels": shape("out.2.weight")[0],
        "block_out_channels": channels,
        "layers_per_block": layers,
        "down_block_types": ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths],
        "up_block_types": ["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(depths)],
        "transformer_layers_per_block": [max(depth, 1) for depth in depths],
        "cross_attention_dim": inner[1],
        "attention_head_dim": [width // _CHANNELS_PER_HEAD for width in channels] if linear else 8,
        "use_linear_projection": linear,
    }
    if "label_emb.0.0.weight" in names:
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": _SINUSOID_WIDTH,
            "projection_class_embeddings_input_dim": shape("label_emb.0.0.weight")[1],
        }
    return config


def vae_config(names: list[str], shape: Shape, sample_size: int, scaling_factor: float) -> dict[str, Any]:
    """The configuration of an AutoencoderKL; names and shapes are those of the original code."""
    blocks = count(names, r"encoder\.down\.(\d+)\.")
    return {
        "block_out_channels": [shape(f"encoder.down.{i}.block.0.conv1.weight")[0] for i in range(blocks)],
        "layers_per_block": count(names, r"encoder\.down\.0\.block\.(\d+)\."),
        "down_block_types": ["DownEncoderBlock2D"] * blocks,
        "up_block_types": ["UpDecoderBlock2D"] * blocks,
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": shape("post_quant_conv.weight")[0],
        "sample_size": sample_size,
        "scaling_factor": scaling_factor,
    }


def clip_config(names: list[str], shape: Shape, activation: str) -> dict[str, Any]:
    """The configuration of a CLIPTextModel; names and shapes are those of diffusers."""
    vocabulary, width = shape("text_model.embeddings.token_embedding.weight")
    projected = shape("text_projection.weight")[0] if "text_projection.weight" in names else width
    return {
        "model_type": "clip_text_model",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": shape("text_model.encoder.layers.0.mlp.fc1.weight")[0],
        "num_attention_heads": width // _CHANNELS_PER_HEAD,
        "num_hidden_layers": count(names, r"text_model\.encoder\.layers\.(\d+)\."),
        "max_position_embeddings": shape("text_model.embeddings.position_embedding.weight")[0],
        "hidden_act": activation,
        "projection_dim": projected,
    }
