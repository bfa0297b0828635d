"""Translate the names of weights in single-file checkpoints, which the original code gave them, to diffusers' names.

Each function takes a name without the part's prefix and gives diffusers' name, or None for an unknown one. Loading a
part checks that names and shapes are complete.
"""

import re

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_UNET_ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_VAE_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
_OPEN_CLIP_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}


def unet_name(name: str, layers: int) -> str | None:
    """Name of a weight of the U-Net; `layers` counts the resnets of a down block."""
    path, _, ending = name.rpartition(".")
    if path in _UNET_ENDS:
        return f"{_UNET_ENDS[path]}.{ending}"
    match = re.fullmatch(r"(input_blocks|output_blocks|middle_block)\.(\d+)\.(.+)", name)
    if not match:
        return None
    side, number, rest = match[1], int(match[2]), match[3]
    if side == "middle_block":
        return _unet_part(f"mid_block.{'attentions.0' if number == 1 else f'resnets.{number // 2}'}", rest)
    block, layer = divmod(number - 1 if side == "input_blocks" else number, layers + 1)
    parent = f"{'down' if side == 'input_blocks' else 'up'}_blocks.{block}"
    position, _, rest = rest.partition(".")
    if rest.startswith("op."):
        return f"{parent}.downsamplers.0.conv.{ending}"
    if rest.startswith("conv."):
        return f"{parent}.upsamplers.0.conv.{ending}"
    return _unet_part(f"{parent}.{'resnets' if position == '0' else 'attentions'}.{layer}", rest)


def _unet_part(parent: str, rest: str) -> str | None:
    path, _, ending = rest.rpartition(".")
    if "attentions" in parent:
        return f"{parent}.{rest}"  # the names inside are the same
    return f"{parent}.{_RESNET[path]}.{ending}" if path in _RESNET else None


def vae_name(name: str, blocks: int) -> str | None:
    """Name of a weight of the VAE; `blocks` counts the decoder's, which the original numbers from the other end."""
    if name.startswith(("quant_conv.", "post_quant_conv.")):
        return name
    side, _, rest = name.partition(".")
    if side not in ("encoder", "decoder"):
        return None
    rest = rest.replace("nin_shortcut", "conv_shortcut")
    if rest.startswith(("conv_in.", "conv_out.")):
        return f"{side}.{rest}"
    if rest.startswith("norm_out."):
        return f"{side}.conv_{rest}"
    if match := re.fullmatch(r"mid\.block_([12])\.(.+)", rest):
        return f"{side}.mid_block.resnets.{int(match[1]) - 1}.{match[2]}"
    if match := re.fullmatch(r"mid\.attn_1\.(\w+)\.(\w+)", rest):
        return f"{side}.mid_block.attentions.0.{_VAE_ATTENTION.get(match[1], match[1])}.{match[2]}"
    if match := re.fullmatch(r"(down|up)\.(\d+)\.(block\.(\d+)|downsample|upsample)\.(.+)", rest):
        number = int(match[2]) if match[1] == "down" else blocks - 1 - int(match[2])
        part = f"resnets.{match[4]}" if match[4] else f"{match[3]}rs.0"  # downsamplers, upsamplers
        return f"{side}.{match[1]}_blocks.{number}.{part}.{match[5]}"
    return None


def open_clip_name(name: str) -> str | None:
    """Name of a weight of an OpenCLIP text encoder; `….qkv.weight` is the joint weight of query, key and value."""
    ends = {
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "ln_final.weight": "text_model.final_layer_norm.weight",
        "ln_final.bias": "text_model.final_layer_norm.bias",
        "text_projection": "text_projection.weight",
    }
    if name in ends:
        return ends[name]
    match = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)[._](weight|bias)", name)
    if not match:
        return None
    parent = f"text_model.encoder.layers.{match[1]}"
    if match[2] == "attn.in_proj":
        return f"{parent}.self_attn.qkv.{match[3]}"
    return f"{parent}.{_OPEN_CLIP_LAYER[match[2]]}.{match[3]}" if match[2] in _OPEN_CLIP_LAYER else None
