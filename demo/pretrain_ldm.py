"""Stage `ldm` of the pretraining: the text encoder and the U-Net, jointly, on latents encoded beforehand."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from demo import pretrain_clip
from demo.pretrain_batches import draw_training_numbers, styled_numbers
from demo.pretrain_data import N_ALL, WordTokenizer, make_captions
from demo.pretrain_vae import CONFIG as VAE_CONFIG
from demo.pretrain_vae import FACTOR_FILE, LATENTS_FILE
from demo.training import Run, load_average, reduced_precision

CONFIG = dict(
    sample_size=8,
    in_channels=VAE_CONFIG["latent_channels"],
    out_channels=VAE_CONFIG["latent_channels"],
    block_out_channels=(96, 160),
    layers_per_block=1,
    down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    cross_attention_dim=pretrain_clip.WIDTH,
    attention_head_dim=4,
    norm_num_groups=32,
)
SCHEDULE = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
# How images are made; a solver of second order needs fewer steps than DDIM (arXiv 2211.01095).
SOLVER = dict(algorithm_type="dpmsolver++", solver_order=2, prediction_type="epsilon", steps_offset=1)
LATENT_SHAPE = (CONFIG["in_channels"], CONFIG["sample_size"], CONFIG["sample_size"])
RATE, BATCH, DECAY = 1e-3, 32, 0.998
CAPTION_DROPOUT = 0.1
P_PAIR, N_STYLED = 0.5, 18  # share of images of two toys; how many of a batch are surely in invented styles
SNR_GAMMA = 5.0
HEAD_WEIGHT = 0.05
DECISIVE, P_DECISIVE = (350, 950), 0.6  # timesteps at which the text decides what appears, and how many more of them


def signal_fractions() -> torch.Tensor:
    """Return the cumulative products of alpha, [T]."""
    betas = torch.linspace(SCHEDULE["beta_start"] ** 0.5, SCHEDULE["beta_end"] ** 0.5, SCHEDULE["num_train_timesteps"])
    return torch.cumprod(1 - betas**2, dim=0)


def draw_timesteps(count: int, total: int, device: torch.device) -> torch.Tensor:
    """Draw timesteps, more of them where the text decides what appears."""
    anywhere, decisive = (torch.randint(*bounds, (count,), device=device) for bounds in ((0, total), DECISIVE))
    return torch.where(torch.rand(count, device=device) < P_DECISIVE, decisive, anywhere)


def min_snr_weight(signal: torch.Tensor) -> torch.Tensor:
    """Return the weight of each sample's squared error (min-SNR, arXiv 2303.09556). signal [B]."""
    return (SNR_GAMMA * (1 - signal) / signal).clamp(max=1)


def build(work_dir: Path) -> dict[str, nn.Module]:
    """Build text encoder and U-Net; the text encoder starts from the contrastively trained one."""
    text_config = pretrain_clip.text_config(WordTokenizer(work_dir / "tokenizer"))
    text_encoder = CLIPTextModel(CLIPTextConfig(**text_config))
    heads = pretrain_clip.AttributeHeads(pretrain_clip.WIDTH)  # discarded; they keep the words apart
    return {"text_encoder": text_encoder, "unet": UNet2DConditionModel(**CONFIG), "heads": heads}


def start_text_encoder(work_dir: Path, text_encoder: CLIPTextModel) -> None:
    """Copy the weights of the CLIP model's text side, by name, all of them."""
    source = pretrain_clip.load(work_dir)[0].text_model.state_dict()
    wanted = text_encoder.state_dict()
    prefix = "text_model." if next(iter(wanted)).startswith("text_model.") else ""
    text_encoder.load_state_dict({prefix + name: tensor for name, tensor in source.items()}, strict=True)


def train(work_dir: Path, minutes: float, steps: int, device: torch.device) -> None:
    """Train text encoder and U-Net to predict the noise."""
    torch.manual_seed(2)
    stored = torch.load(work_dir / LATENTS_FILE, weights_only=True).to(device)
    factor = json.loads((work_dir / FACTOR_FILE).read_text())["scaling_factor"]
    ids, targets = (torch.from_numpy(array).to(device) for array in make_captions(work_dir, N_ALL))
    nothing = torch.tensor(WordTokenizer(work_dir / "tokenizer")(""), device=device)
    kept, styled = signal_fractions().to(device), styled_numbers()
    modules = build(work_dir)
    start_text_encoder(work_dir, modules["text_encoder"])
    text_encoder, unet, heads = (module.to(device) for module in modules.values())
    unet.to(memory_format=torch.channels_last)
    run = Run(work_dir, "ldm", modules, RATE, steps, minutes, hold=0.35, decay=DECAY)
    for _ in run:
        chosen = draw_training_numbers(BATCH, P_PAIR, styled, N_STYLED).to(device)
        tokens = ids[chosen, torch.randint(0, ids.shape[1], (BATCH,), device=device)].long()
        dropped = torch.rand(BATCH, device=device) < CAPTION_DROPOUT
        tokens = torch.where(dropped[:, None], nothing, tokens)
        mean, std = stored[chosen].float().chunk(2, dim=1)  # [B, C, h, w] each
        latents = (mean + std * torch.randn_like(mean)) * factor
        noise = torch.randn_like(latents)
        timesteps = draw_timesteps(BATCH, len(kept), device)
        signal = kept[timesteps]
        noisy_latents = signal.sqrt()[:, None, None, None] * latents + (1 - signal).sqrt()[:, None, None, None] * noise
        with reduced_precision(device):
            states = text_encoder(tokens).last_hidden_state  # [B, 77, width]
            predicted = unet(noisy_latents, timesteps, states).sample
            said = heads.loss(states[:, -1], targets[chosen]).float()
        squared = (predicted.float() - noise).square().mean((1, 2, 3))
        loss = (min_snr_weight(signal) * squared).mean()
        run.update(loss + HEAD_WEIGHT * said, BATCH, plain=squared.mean(), said=said)


def load(work_dir: Path) -> tuple[dict[str, nn.Module], dict]:
    """Return the averaged text encoder and U-Net, and the figures of their training."""
    modules = build(work_dir)
    figures = load_average(work_dir, "ldm", modules)
    for module in modules.values():
        module.eval().requires_grad_(False)
    return modules, figures
