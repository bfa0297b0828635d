"""Stages `vae`, `latents`, `sharpen` and `decoder` of the pretraining: 128x128 pixels to 8x8x16 latents and back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from demo.drawing import SIZE
from demo.pretrain_batches import draw_training_numbers, styled_numbers
from demo.pretrain_data import N_TRAIN, load_pictures
from demo.training import Run, load_average, reduced_precision

CONFIG = dict(
    in_channels=3,
    out_channels=3,
    down_block_types=("DownEncoderBlock2D",) * 5,
    up_block_types=("UpDecoderBlock2D",) * 5,
    block_out_channels=(16, 16, 32, 64, 64),
    layers_per_block=1,
    latent_channels=16,
    norm_num_groups=8,
    sample_size=SIZE,
    mid_block_add_attention=True,
)
RATE, BATCH, DECAY = 2e-3, 32, 0.995
P_PAIR = 0.2  # share of images of two toys, whose faces are small
KL_WEIGHT, EDGE_WEIGHT = 2e-4, 0.5
# Of `sharpen` and `decoder`. Pairs come back worst, and images in invented styles best: a batch holds few of these.
SHARP_BATCH, SHARP_DECAY, SHARP_P_PAIR, SHARP_N_STYLED = 16, 0.998, 0.35, 2
SHARPENING_RATE, SHARPENING_SQUARES = 7e-4, 32.0
DECODER_RATE, DECODER_SQUARES = 5e-4, 16.0  # lines stay sharper than with more weight on squares
# What it costs to leave the given latents, in squared distance: of the means, and of the logarithms of the variances.
HELD_MEANS, HELD_VARIANCES = 0.02, 0.01
LEAST_STD = 0.05  # variances below its square are as good as that, in latents of unit std
FIRST_LOG_VARIANCE = -5.0
STAGES = ("vae", "sharpen", "decoder")  # those that train the autoencoder, in turn
LATENTS_FILE, FACTOR_FILE = "latents.pt", "scaling_factor.json"


def to_tensor(pixels) -> torch.Tensor:
    """Turn uint8 [B, H, W, 3] into float [B, 3, H, W] in -1..1."""
    return (torch.as_tensor(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous()


def reconstruction_loss(output: torch.Tensor, target: torch.Tensor, squares: float = 0.0) -> torch.Tensor:
    """L1 on pixels and on differences of neighbours (edges), and squared error, which may weigh more by `squares`."""
    edges = sum(F.l1_loss(output.diff(dim=d), target.diff(dim=d)) for d in (2, 3))
    return F.l1_loss(output, target) + EDGE_WEIGHT * edges + (1 + squares) * F.mse_loss(output, target)


def psnr(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB of images in -1..1."""
    return -10 * torch.log10(F.mse_loss(output.clamp(-1, 1), target) / 4)


def train(work_dir: Path, minutes: float, steps: int, device: torch.device) -> None:
    """Train the autoencoder."""
    torch.manual_seed(0)
    pixels = torch.from_numpy(load_pictures(work_dir)).to(device)
    vae = AutoencoderKL(**CONFIG).to(device, memory_format=torch.channels_last)
    # Latents of unit noise say nothing at first, and the decoder would learn to ignore them.
    with torch.no_grad():
        vae.quant_conv.bias[CONFIG["latent_channels"] :] = FIRST_LOG_VARIANCE
    run = Run(work_dir, "vae", {"vae": vae}, RATE, steps, minutes, hold=0.2, decay=DECAY, weight_decay=1e-4)
    for _ in run:
        target = to_tensor(pixels[draw_training_numbers(BATCH, P_PAIR).to(device)])
        output, mean, log_variance = _there_and_back(vae, target)
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
        loss = reconstruction_loss(output, target) + KL_WEIGHT * kl
        run.update(loss, BATCH, psnr=psnr(output.detach(), target), kl=kl.detach())


def sharpen(work_dir: Path, minutes: float, steps: int, device: torch.device) -> None:
    """Train the autoencoder further, its latents held near those of before: what learned from them stays valid."""
    torch.manual_seed(5)
    vae = load(work_dir, "vae")[0].train().requires_grad_(True).to(device, memory_format=torch.channels_last)
    run = Run(work_dir, "sharpen", {"vae": vae}, SHARPENING_RATE, steps, minutes, 0.2, SHARP_DECAY, weight_decay=1e-4)
    for target, (wanted, std) in _batches(work_dir, run, device):
        output, mean, log_variance = _there_and_back(vae, target)
        off = F.mse_loss(mean, wanted)
        spread = F.mse_loss(log_variance, (std.square() + LEAST_STD**2).log())
        loss = reconstruction_loss(output, target, SHARPENING_SQUARES) + HELD_MEANS * off + HELD_VARIANCES * spread
        run.update(loss, len(target), psnr=psnr(output.detach(), target), off=off.detach().sqrt())


def train_decoder(work_dir: Path, minutes: float, steps: int, device: torch.device) -> None:
    """Train only the decoder further: latents, and all that learned from them, stay as they are."""
    torch.manual_seed(6)
    modules = _decoder_modules(load(work_dir, "vae", "sharpen")[0])
    for module in modules.values():
        module.train().requires_grad_(True).to(device, memory_format=torch.channels_last)
    run = Run(work_dir, "decoder", modules, DECODER_RATE, steps, minutes, 0.2, SHARP_DECAY, weight_decay=1e-4)
    for target, (mean, std) in _batches(work_dir, run, device):
        with reduced_precision(device):
            latents = modules["post_quant_conv"](mean + std * torch.randn_like(mean))
            output = modules["decoder"](latents).float()
        loss = reconstruction_loss(output, target, DECODER_SQUARES)
        run.update(loss, len(target), psnr=psnr(output.detach(), target))


def _batches(
    work_dir: Path, run: Run, device: torch.device
) -> Iterator[tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]]:
    """A batch for each step of a run: images, [B, 3, H, W], and the means and stds of their latents."""
    pixels = torch.from_numpy(load_pictures(work_dir)).to(device)
    latents, styled = torch.load(work_dir / LATENTS_FILE, weights_only=True).to(device), styled_numbers()
    for _ in run:
        chosen = draw_training_numbers(SHARP_BATCH, SHARP_P_PAIR, styled, SHARP_N_STYLED).to(device)
        yield to_tensor(pixels[chosen]), latents[chosen].float().chunk(2, dim=1)


def _decoder_modules(vae: AutoencoderKL) -> dict[str, torch.nn.Module]:
    return {"decoder": vae.decoder, "post_quant_conv": vae.post_quant_conv}


def _there_and_back(vae: AutoencoderKL, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images from sampled latents, [B, 3, H, W], and the means and log-variances of those, [B, C, h, w] each."""
    with reduced_precision(target.device):
        mean, log_variance = vae.quant_conv(vae.encoder(target)).float().chunk(2, dim=1)
        log_variance = log_variance.clamp(-30, 20)
        latents = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        return vae.decoder(vae.post_quant_conv(latents)).float(), mean, log_variance


def load(work_dir: Path, *stages: str) -> tuple[AutoencoderKL, dict]:
    """Return the averaged autoencoder, and the figures of its training.

    Args:
        stages: which may have trained it; all where none is given. One that was not run changes nothing.
    """
    vae, figures = AutoencoderKL(**CONFIG), {}
    for stage in STAGES:
        modules = _decoder_modules(vae) if stage == "decoder" else {"vae": vae}
        if stage in (stages or STAGES) and (work_dir / f"{stage}.pt").exists():
            figures[stage] = load_average(work_dir, stage, modules)
    return vae.eval().requires_grad_(False), figures


@torch.no_grad()
def encode_all(work_dir: Path, device: torch.device) -> None:
    """Encode every image once: means and stds, float16 [N, 2C, h, w], and the factor that scales them to unit std."""
    vae = load(work_dir)[0].to(device)
    pixels, encoded = load_pictures(work_dir), []
    for start in range(0, len(pixels), 250):
        with reduced_precision(device):
            posterior = vae.encode(to_tensor(pixels[start : start + 250]).to(device)).latent_dist
        encoded.append(torch.cat([posterior.mean, posterior.std], dim=1).half().cpu())
    latents = torch.cat(encoded)
    torch.save(latents, work_dir / LATENTS_FILE)
    if not (work_dir / FACTOR_FILE).exists():
        factor = 1 / latents[:, : CONFIG["latent_channels"]].float().std().item()
        (work_dir / FACTOR_FILE).write_text(json.dumps({"scaling_factor": factor}))
    factor = json.loads((work_dir / FACTOR_FILE).read_text())["scaling_factor"]
    print(f"vae: encoded {len(latents)} pictures, scaling factor {factor:.4f}", flush=True)


@torch.no_grad()
def evaluate(work_dir: Path, first: int = N_TRAIN, count: int = 500) -> float:
    """Return the PSNR of drawings from sampled latents; by default of held-out drawings."""
    vae, figures = load(work_dir)
    generator = torch.Generator().manual_seed(0)
    target = to_tensor(load_pictures(work_dir)[first : first + count])
    latents = torch.cat([vae.encode(part).latent_dist.sample(generator) for part in target.split(50)])
    output = torch.cat([vae.decode(part).sample for part in latents.split(50)])
    ratio = psnr(output, target).item()
    print(f"vae: PSNR {ratio:.2f} dB, {figures}", flush=True)
    return ratio
