"""Stages `drawings`, `encoder`, `details`, `whole`, `kept` and `enlarged` of the pretraining: images twice as large.

The diffusion model, and everything that was learned on it, knows the latents of the autoencoder for 64x64 pixels. So
the one for 128x128 gets the same latents: its encoder is trained to give, for a drawing at 128, what the other one
gives for the same drawing at 64, means and variances. Its decoder draws the drawing at 128 from them. Both start as the
smaller autoencoder with one more level, which at first does nothing but halve and double the side. `whole` then trains
both at once, and holds the latents near the given ones: the small encoder says less than the latents can hold. `kept`
writes what they have learned so far to `enlarged.safetensors`, from which `adopt` goes on.
"""

from __future__ import annotations

import json
import os
from functools import cache
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from demo import pretrain_vae, training
from demo.pretrain_batches import draw_training_numbers, styled_numbers
from demo.pretrain_data import N_ALL, SHARD, SIZE
from demo.pretrain_vae import SQUARE_WEIGHT, reconstruction_loss, to_tensor
from demo.toyworld import FIRST_PAIR, picture
from demo.training import Run, load_average, reduced_precision

SIDE = 2 * SIZE
LEVELS = len(pretrain_vae.CONFIG["block_out_channels"]) + 1
CONFIG = pretrain_vae.CONFIG | dict(
    down_block_types=("DownEncoderBlock2D",) * LEVELS,
    up_block_types=("UpDecoderBlock2D",) * LEVELS,
    block_out_channels=(pretrain_vae.CONFIG["block_out_channels"][0], *pretrain_vae.CONFIG["block_out_channels"]),
    sample_size=SIDE,
)
EVERY = 3  # of the training images, one in so many is drawn, and each in an invented style: the hardest to decode
RATE, DECAY = 1e-3, 0.998
P_PAIR, P_STYLED = 0.35, 0.1
KEPT = Path(__file__).with_name("enlarged.safetensors")
STAGES = {"encoder": "encoder", "decoder": "details"}  # the stage that trains each part
WHOLE, WHOLE_RATE = "whole", 7e-4  # the stage that trains both
# What it costs to leave the given latents, in squared distance: of the means, and of the logarithms of the variances.
HELD_MEANS, HELD_VARIANCES = 0.02, 0.01
LEAST_STD = 0.05  # nearer than this the encoders need not agree, in latents of unit std


# ----------------------------------------------------------------------------------------------------------- drawings


@cache
def drawn_numbers() -> np.ndarray:
    """The numbers of the images that are drawn for these stages, in order, int64 [N]."""
    some = np.arange(N_ALL) % EVERY == 0
    some[styled_numbers().numpy()] = True
    some[pretrain_vae.N_TRAIN : FIRST_PAIR] = False  # held out
    return np.flatnonzero(some)


def _draw(job: tuple[Path, int]) -> None:
    folder, shard = job
    path = folder / f"large-{shard:03d}.npz"
    if path.exists():
        return
    shown = [picture(int(number)) for number in drawn_numbers()[shard * SHARD : (shard + 1) * SHARD]]
    small, large = (np.stack([np.asarray(one.draw(side)) for one in shown]) for side in (SIZE, SIDE))
    aside = path.with_suffix(".tmp.npz")
    np.savez(aside, small=small, large=large)
    os.replace(aside, path)


def draw_images(work_dir: Path) -> None:
    """Draw the images at both sizes, from the same lines."""
    jobs = [(work_dir, shard) for shard in range(-(-len(drawn_numbers()) // SHARD))]
    with Pool(os.cpu_count()) as pool:
        for done, _ in enumerate(pool.imap_unordered(_draw, jobs), 1):
            print(f"drawings: {done} of {len(jobs)} shards", flush=True)


def _load_images(work_dir: Path, size: str) -> torch.Tensor:
    """All of them, uint8 [N, H, W, 3]; `size` is small or large."""
    return torch.from_numpy(np.concatenate([np.load(path)[size] for path in sorted(work_dir.glob("large-???.npz"))]))


@torch.no_grad()
def _latents(work_dir: Path, device: torch.device) -> torch.Tensor:
    """Means and stds of the smaller encoder, float16 [N, 2C, h, w], computed once."""
    path = work_dir / "large-latents.pt"
    if not path.exists():
        vae, encoded = pretrain_vae.load(work_dir)[0].to(device), []
        for pixels in _load_images(work_dir, "small").split(250):
            posterior = vae.encode(to_tensor(pixels).to(device)).latent_dist
            encoded.append(torch.cat([posterior.mean, posterior.std], dim=1).half().cpu())
        torch.save(torch.cat(encoded), path)
    return torch.load(path, weights_only=True)


def _draw_places(batch: int) -> torch.Tensor:
    """Which of the drawn images a batch shows, int64 [batch]: pairs and invented styles more often than they come."""
    numbers = draw_training_numbers(batch, P_PAIR, _styled(), round(P_STYLED * batch))
    return torch.searchsorted(torch.from_numpy(drawn_numbers()), numbers).clamp(max=len(drawn_numbers()) - 1)


_styled = cache(styled_numbers)


# ------------------------------------------------------------------------------------------------------------- model


@torch.no_grad()
def enlarged(small: AutoencoderKL) -> AutoencoderKL:
    """An autoencoder for twice the side that begins as `small`: it halves images first, and doubles them at the end.

    Returns:
        The same latents, about, for images that hold no finer detail; and its images, each pixel four times.
    """
    large = AutoencoderKL(**CONFIG)
    for part, level in (("encoder", "down_blocks"), ("decoder", "up_blocks")):
        shift = 1 if part == "encoder" else 0
        state = {}
        for name, tensor in getattr(small, part).state_dict().items():
            head, _, rest = name.partition(".")
            number, _, tail = rest.partition(".")
            state[name if head != level else f"{level}.{int(number) + shift}.{tail}"] = tensor
        getattr(large, part).load_state_dict(state, strict=False)
    for name in ("quant_conv", "post_quant_conv"):
        getattr(large, name).load_state_dict(getattr(small, name).state_dict())
    before, after = large.encoder.down_blocks[0], large.decoder.up_blocks[-1]
    for block in (*before.resnets, *after.resnets):
        block.conv2.weight.zero_()
        block.conv2.bias.zero_()
    _pass_through(before.downsamplers[0].conv, [(0, 0), (0, 1), (1, 0), (1, 1)])
    _pass_through(large.decoder.up_blocks[-2].upsamplers[0].conv, [(1, 1)])
    return large


def _pass_through(conv: torch.nn.Conv2d, cells: list[tuple[int, int]]) -> None:
    """Make a convolution the mean of some cells of its window, channel by channel."""
    conv.weight.zero_()
    conv.bias.zero_()
    for row, column in cells:
        conv.weight[range(conv.out_channels), range(conv.in_channels), row, column] = 1 / len(cells)


def _modules(vae: AutoencoderKL, part: str) -> dict[str, torch.nn.Module]:
    conv = "quant_conv" if part == "encoder" else "post_quant_conv"
    return {part: getattr(vae, part), conv: getattr(vae, conv)}


# ---------------------------------------------------------------------------------------------------------- training


def divergence(mean: torch.Tensor, log_variance: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """Mean Kullback-Leibler divergence in nats, per latent number, of normal distributions from the given ones.

    Args:
        mean, log_variance: [B, C, h, w] each; given: means and stds, [B, 2C, h, w].
    """
    wanted, std = given.chunk(2, dim=1)
    variance = std.square() + LEAST_STD**2
    log_ratio = log_variance - variance.log()
    return 0.5 * ((mean - wanted).square() / variance + log_ratio.exp() - 1 - log_ratio).mean()


def _prepared(
    work_dir: Path, part: str, device: torch.device
) -> tuple[dict[str, torch.nn.Module], dict[str, torch.Tensor]]:
    """The modules of a part, ready to be trained, and what they are trained on, on the device."""
    modules = _modules(enlarged(pretrain_vae.load(work_dir)[0]), part)
    for module in modules.values():
        module.train().requires_grad_(True).to(device, memory_format=torch.channels_last)
    images = {"given": _latents(work_dir, device), "pixels": _load_images(work_dir, "large")}
    return modules, {name: tensor.to(device) for name, tensor in images.items()}


def train_encoder(work_dir: Path, minutes: float, steps: int, device: torch.device, batch: int) -> None:
    """Train the encoder to give the latents of the smaller one."""
    torch.manual_seed(3)
    modules, images = _prepared(work_dir, "encoder", device)
    encoder, conv = modules.values()
    run = Run(work_dir, "encoder", modules, RATE, steps, minutes, hold=0.3, decay=DECAY, weight_decay=1e-4)
    for _ in run:
        places = _draw_places(batch).to(device)
        wanted = images["given"][places].float()
        with reduced_precision(device):
            mean, log_variance = conv(encoder(to_tensor(images["pixels"][places]))).float().chunk(2, dim=1)
        off = F.mse_loss(mean.detach(), wanted.chunk(2, dim=1)[0]).sqrt()
        run.update(divergence(mean, log_variance.clamp(-30, 20), wanted), batch, off=off)


def train_decoder(work_dir: Path, minutes: float, steps: int, device: torch.device, batch: int) -> None:
    """Train the decoder to draw at twice the side from the smaller encoder's latents."""
    torch.manual_seed(4)
    modules, images = _prepared(work_dir, "decoder", device)
    decoder, conv = modules.values()
    run = Run(work_dir, "details", modules, RATE, steps, minutes, hold=0.3, decay=DECAY, weight_decay=1e-4)
    for _ in run:
        places = _draw_places(batch).to(device)
        mean, std = images["given"][places].float().chunk(2, dim=1)
        target = to_tensor(images["pixels"][places])
        with reduced_precision(device):
            output = decoder(conv(mean + std * torch.randn_like(mean))).float()
        loss = reconstruction_loss(output, target) + SQUARE_WEIGHT * F.mse_loss(output, target)
        run.update(loss, batch, psnr=pretrain_vae.psnr(output.detach(), target))


def train_whole(work_dir: Path, minutes: float, steps: int, device: torch.device, batch: int) -> None:
    """Train encoder and decoder at once, from what each learned alone."""
    torch.manual_seed(5)
    vae = load(work_dir)[0].train().requires_grad_(True).to(device, memory_format=torch.channels_last)
    given, pixels = _latents(work_dir, device).to(device), _load_images(work_dir, "large").to(device)
    run = Run(work_dir, WHOLE, {"vae": vae}, WHOLE_RATE, steps, minutes, hold=0.2, decay=DECAY, weight_decay=1e-4)
    for _ in run:
        places = _draw_places(batch).to(device)
        wanted, std = given[places].float().chunk(2, dim=1)
        target = to_tensor(pixels[places])
        with reduced_precision(device):
            mean, log_variance = vae.quant_conv(vae.encoder(target)).float().chunk(2, dim=1)
            log_variance = log_variance.clamp(-30, 20)
            latents = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
            output = vae.decoder(vae.post_quant_conv(latents)).float()
        off, spread = F.mse_loss(mean, wanted), F.mse_loss(log_variance, (std.square() + LEAST_STD**2).log())
        loss = reconstruction_loss(output, target) + SQUARE_WEIGHT * F.mse_loss(output, target)
        loss = loss + HELD_MEANS * off + HELD_VARIANCES * spread
        run.update(loss, batch, psnr=pretrain_vae.psnr(output.detach(), target), off=off.detach().sqrt())


def load(work_dir: Path) -> tuple[AutoencoderKL, dict]:
    """The averaged autoencoder, and the figures of its training; a part that was not trained is as it began."""
    vae, figures = enlarged(pretrain_vae.load(work_dir)[0]), {}
    if (work_dir / f"{WHOLE}.pt").exists():
        figures[WHOLE] = load_average(work_dir, WHOLE, {"vae": vae})
        return vae.eval().requires_grad_(False), figures
    for part, stage in STAGES.items():
        if (work_dir / f"{stage}.pt").exists():
            figures[stage] = load_average(work_dir, stage, _modules(vae, part))
    return vae.eval().requires_grad_(False), figures


def keep(work_dir: Path, file: Path = KEPT) -> None:
    """Write the averaged weights, float16."""
    save_file({name: tensor.half() for name, tensor in load(work_dir)[0].state_dict().items()}, file)
    file.chmod(0o644)


def adopt(work_dir: Path, file: Path = KEPT) -> None:
    """Let the stages start from the weights of a file."""
    state = {name: tensor.float() for name, tensor in load_file(file).items()}
    for part, stage in STAGES.items():
        modules = {name: {} for name in _modules(AutoencoderKL(**CONFIG), part)}
        for name, tensor in state.items():
            module, _, rest = name.partition(".")
            if module in modules:
                modules[module][rest] = tensor
        training.adopt(work_dir, stage, modules)


@torch.no_grad()
def evaluate(work_dir: Path, first: int, count: int = 250) -> float:
    """PSNR in dB of drawings from sampled latents, encoded and decoded at the larger side."""
    vae, _ = load(work_dir)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.from_numpy(np.stack([np.asarray(picture(first + i).draw(SIDE)) for i in range(count)]))
    squares = []
    for target in map(to_tensor, drawn.split(50)):
        output = vae.decode(vae.encode(target).latent_dist.sample(generator)).sample.clamp(-1, 1)
        squares.append(F.mse_loss(output, target).item())
    return -10 * float(np.log10(np.mean(squares) / 4))


def export(work_dir: Path, model_dir: Path) -> None:
    """Write the autoencoder into a model, in place of the smaller one."""
    from demo import pretrain_export

    vae, figures = load(work_dir)
    factor = json.loads((work_dir / pretrain_vae.FACTOR_FILE).read_text())["scaling_factor"]
    config = {"act_fn": "silu", **CONFIG, "scaling_factor": factor}
    pretrain_export.write_diffusion_part(model_dir / "vae", vae, config)
    alone, pairs = (evaluate(work_dir, first) for first in (pretrain_vae.N_TRAIN, N_ALL))
    print(f"enlarged: {model_dir / 'vae'}, {alone:.2f} dB, pairs {pairs:.2f} dB, {figures}", flush=True)
