"""Stage `vae` of the pretraining: 64x64 pixels to 8x8x16 latents and back."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from demo.pretrain_batches import draw_training_numbers
from demo.pretrain_data import N_TRAIN, SIZE, load_pictures
from demo.training import Run, load_average, reduced_precision

CONFIG = dict(
    in_channels=3,
    out_channels=3,
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
    block_out_channels=(16, 32, 64, 64),
    layers_per_block=1,
    latent_channels=16,
    norm_num_groups=8,
    sample_size=SIZE,
    mid_block_add_attention=True,
)
RATE, BATCH, DECAY = 2e-3, 32, 0.995
P_PAIR = 0.2  # share of images of two toys, whose faces are small
KL_WEIGHT, EDGE_WEIGHT = 2e-4, 0.5
SHARPENING_RATE, SQUARE_WEIGHT = 1e-3, 32.0
FIRST_LOG_VARIANCE = -5.0
LATENTS_FILE, FACTOR_FILE = "latents.pt", "scaling_factor.json"


def to_tensor(pixels) -> torch.Tensor:
    """Turn uint8 [B, H, W, 3] into float [B, 3, H, W] in -1..1."""
    return (torch.as_tensor(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous()


def reconstruction_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """L1 on pixels and on differences of neighbours (edges), and squared error."""
    edges = sum(F.l1_loss(output.diff(dim=d), target.diff(dim=d)) for d in (2, 3))
    return F.l1_loss(output, target) + EDGE_WEIGHT * edges + F.mse_loss(output, target)


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
        with reduced_precision(device):
            mean, log_variance = vae.quant_conv(vae.encoder(target)).float().chunk(2, dim=1)
            log_variance = log_variance.clamp(-30, 20)
            latents = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
            output = vae.decoder(vae.post_quant_conv(latents)).float()
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
        loss = reconstruction_loss(output, target) + KL_WEIGHT * kl
        run.update(loss, BATCH, psnr=psnr(output.detach(), target), kl=kl.detach())


def sharpen(work_dir: Path, minutes: float, steps: int, device: torch.device) -> None:
    """Train only the decoder further: the encoder is frozen, so latents and all that learned from them stay valid."""
    torch.manual_seed(2)
    pixels = torch.from_numpy(load_pictures(work_dir)).to(device)
    latents = torch.load(work_dir / LATENTS_FILE, weights_only=True)
    modules = _decoder_modules(load(work_dir, sharpened=False)[0])
    decoder, post_quant_conv = (module.train().requires_grad_(True).to(device) for module in modules.values())
    run = Run(work_dir, "decoder", modules, SHARPENING_RATE, steps, minutes, hold=0.3, decay=0.999, weight_decay=1e-4)
    for _ in run:
        chosen = draw_training_numbers(BATCH, P_PAIR)
        target, (mean, std) = (
            to_tensor(pixels[chosen.to(device)]),
            latents[chosen].to(device).float().chunk(2, dim=1),
        )
        with reduced_precision(device):
            output = decoder(post_quant_conv(mean + std * torch.randn_like(mean))).float()
        loss = reconstruction_loss(output, target) + SQUARE_WEIGHT * F.mse_loss(output, target)
        run.update(loss, BATCH, psnr=psnr(output.detach(), target))


def _decoder_modules(vae: AutoencoderKL) -> dict[str, torch.nn.Module]:
    return {"decoder": vae.decoder, "post_quant_conv": vae.post_quant_conv}


def load(work_dir: Path, sharpened: bool = True) -> tuple[AutoencoderKL, dict]:
    """Return the averaged autoencoder, its decoder as sharpened where it was, and the figures of its training."""
    vae = AutoencoderKL(**CONFIG)
    figures = load_average(work_dir, "vae", {"vae": vae})
    if sharpened and (work_dir / "decoder.pt").exists():
        figures["decoder"] = load_average(work_dir, "decoder", _decoder_modules(vae))
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
