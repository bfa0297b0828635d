"""Names of single-file checkpoints, by those of the real Stable Diffusion models."""

import pytest

from textual_inversion.models.single_file.names import open_clip_name, unet_name, vae_name


@pytest.mark.parametrize(
    "original, diffusers",
    [
        ("time_embed.2.bias", "time_embedding.linear_2.bias"),
        ("input_blocks.0.0.weight", "conv_in.weight"),
        ("input_blocks.3.0.op.weight", "down_blocks.0.downsamplers.0.conv.weight"),
        ("input_blocks.4.1.proj_in.weight", "down_blocks.1.attentions.0.proj_in.weight"),
        ("input_blocks.11.0.in_layers.0.weight", "down_blocks.3.resnets.1.norm1.weight"),
        ("middle_block.2.emb_layers.1.weight", "mid_block.resnets.1.time_emb_proj.weight"),
        ("output_blocks.2.1.conv.weight", "up_blocks.0.upsamplers.0.conv.weight"),
        ("output_blocks.5.2.conv.bias", "up_blocks.1.upsamplers.0.conv.bias"),
        ("output_blocks.11.1.norm.bias", "up_blocks.3.attentions.2.norm.bias"),
        ("output_blocks.11.0.skip_connection.bias", "up_blocks.3.resnets.2.conv_shortcut.bias"),
        ("input_blocks.1.0.strange.weight", None),
        ("control.weight", None),
    ],
)
def test_names_of_the_u_net_of_stable_diffusion_1(original, diffusers):
    assert unet_name(original, layers=2) == diffusers


@pytest.mark.parametrize(
    "original, diffusers",
    [
        ("encoder.down.1.block.0.nin_shortcut.weight", "encoder.down_blocks.1.resnets.0.conv_shortcut.weight"),
        ("encoder.down.2.downsample.conv.bias", "encoder.down_blocks.2.downsamplers.0.conv.bias"),
        ("decoder.up.3.block.0.norm1.weight", "decoder.up_blocks.0.resnets.0.norm1.weight"),
        ("decoder.up.1.upsample.conv.weight", "decoder.up_blocks.2.upsamplers.0.conv.weight"),
        ("decoder.mid.attn_1.proj_out.weight", "decoder.mid_block.attentions.0.to_out.0.weight"),
        ("encoder.norm_out.bias", "encoder.conv_norm_out.bias"),
        ("post_quant_conv.weight", "post_quant_conv.weight"),
        ("loss.logvar", None),
    ],
)
def test_names_of_the_vae(original, diffusers):
    assert vae_name(original, blocks=4) == diffusers


@pytest.mark.parametrize(
    "original, diffusers",
    [
        ("transformer.resblocks.22.ln_2.bias", "text_model.encoder.layers.22.layer_norm2.bias"),
        ("transformer.resblocks.0.attn.in_proj_weight", "text_model.encoder.layers.0.self_attn.qkv.weight"),
        ("transformer.resblocks.0.mlp.c_proj.bias", "text_model.encoder.layers.0.mlp.fc2.bias"),
        ("positional_embedding", "text_model.embeddings.position_embedding.weight"),
        ("logit_scale", None),
    ],
)
def test_names_of_an_open_clip(original, diffusers):
    assert open_clip_name(original) == diffusers
