"""Stage `ldm` of the pretraining: the text encoder and the U-Net, jointly, on latents encoded beforehand."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTextConfig, CLIPTextModel

from demo import pretrain_clip
from demo.pretrain_data import N_ALL, N_TRAIN, WordTokenizer, make_captions
from demo.pretrain_vae import FACTOR_FILE, LATENTS_FILE
from demo.toyworld import FIRST_PAIR
from demo.training import Run, load_average

CONFIG = dict(
    sample_size=8,
    in_channels=16,
    out_channels=16,
    block_out_channels=(96, 160),
    layers_per_block=1,
    down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    cross_attention_dim=pretrain_clip.WIDTH,
    attention_head_dim=4,
    norm_num_groups=32,
)
SCHEDULE = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
RATE, BATCH, DECAY = 1e-3, 32, 0.998
CAPTION_DROPOUT = 0.1
P_PAIR = 0.15  # share of pictures of two toys
SNR_GAMMA = 5.0
HEAD_WEIGHT = 0.05
DECISIVE, P_DECISIVE = (350, 950), 0.6  # timesteps at which the text decides what appears, and how many more of them


def signal_fractions() -> torch.Tensor:
    """Return the cumulative products of alpha, [T]."""
    betas = torch.linspace(SCHEDULE["beta_start"] ** 0.5, SCHEDULE["beta_end"] ** 0.5, SCHEDULE["num_train_timesteps"])
    return torch.cumprod(1 - betas**2, dim=0)


def draw_timesteps(count: int, total: int) -> torch.Tensor:
    """Draw timesteps, more of them where the text decides what appears."""
    anywhere, decisive = torch.randint(0, total, (count,)), torch.randint(*DECISIVE, (count,))
    return torch.where(torch.rand(count) < P_DECISIVE, decisive, anywhere)


def min_snr_weight(signal: torch.Tensor) -> torch.Tensor:
    """Return the weight of each sample's squared error (min-SNR, arXiv 2303.09556). signal [B]."""
    return (SNR_GAMMA * (1 - signal) / signal).clamp(max=1)


def build(work_dir: Path) -> dict[str, nn.Module]:
    """Build text encoder and U-Net; the text encoder starts from the contrastively trained one."""
    text_config = pretrain_clip.text_config(WordTokenizer(work_dir / "tokenizer"))
    text_encoder = CLIPTextModel(CLIPTextConfig(**text_config))
    heads = pretrain_clip.AttributeHeads(pretrain_clip.WIDTH)  # thrown away; they keep the words apart
    return {"text_encoder": text_encoder, "unet": UNet2DConditionModel(**CONFIG), "heads": heads}


def start_text_encoder(work_dir: Path, text_encoder: CLIPTextModel) -> None:
    """Copy the weights of the CLIP model's text side, by name, all of them."""
    source = pretrain_clip.load(work_dir)[0].text_model.state_dict()
    wanted = text_encoder.state_dict()
    prefix = "text_model." if next(iter(wanted)).startswith("text_model.") else ""
    text_encoder.load_state_dict({prefix + name: tensor for name, tensor in source.items()}, strict=True)


def train(work_dir: Path, minutes: float, steps: int) -> None:
    """Train text encoder and U-Net to predict the noise."""
    torch.manual_seed(2)
    stored = torch.load(work_dir / LATENTS_FILE, weights_only=True)
    factor = json.loads((work_dir / FACTOR_FILE).read_text())["scaling_factor"]
    ids, targets = (torch.from_numpy(array.astype("int64")) for array in make_captions(work_dir, N_ALL))
    nothing = torch.tensor(WordTokenizer(work_dir / "tokenizer")(""))
    kept = signal_fractions()
    modules = build(work_dir)
    text_encoder, unet, heads = modules.values()
    start_text_encoder(work_dir, text_encoder)
    run = Run(work_dir, "ldm", modules, RATE, steps, minutes, hold=0.35, decay=DECAY)
    for _ in run:
        chosen = torch.where(
            torch.rand(BATCH) < P_PAIR, torch.randint(FIRST_PAIR, N_ALL, (BATCH,)), torch.randint(0, N_TRAIN, (BATCH,))
        )
        tokens = ids[chosen, torch.randint(0, ids.shape[1], (BATCH,))]
        tokens[torch.rand(BATCH) < CAPTION_DROPOUT] = nothing
        mean, std = stored[chosen].float().chunk(2, dim=1)  # [B, C, h, w] each
        latents = (mean + std * torch.randn_like(mean)) * factor
        noise = torch.randn_like(latents)
        timesteps = draw_timesteps(BATCH, len(kept))
        signal = kept[timesteps]
        noisy_latents = signal.sqrt()[:, None, None, None] * latents + (1 - signal).sqrt()[:, None, None, None] * noise
        with torch.autocast("cpu", dtype=torch.bfloat16), sdpa_kernel(SDPBackend.MATH):  # a third faster than flash
            states = text_encoder(tokens).last_hidden_state  # [B, 77, width]
            predicted = unet(noisy_latents, timesteps, states).sample
            said = heads.loss(states[:, -1], targets[chosen]).float()
        squared = (predicted.float() - noise).square().mean((1, 2, 3))
        loss = (min_snr_weight(signal) * squared).mean()
        run.update(loss + HEAD_WEIGHT * said, BATCH, plain=squared.mean().item(), said=said.item())


def load(work_dir: Path) -> tuple[dict[str, nn.Module], dict]:
    """Return the averaged text encoder and U-Net, and the figures of their training."""
    modules = build(work_dir)
    figures = load_average(work_dir, "ldm", modules)
    for module in modules.values():
        module.eval().requires_grad_(False)
    return modules, figures
