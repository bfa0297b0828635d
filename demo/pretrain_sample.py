"""Images from the diffusion model while it is still in PyTorch: for the report of the pretraining."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import DPMSolverMultistepScheduler
from PIL import Image

from demo import pretrain_ldm, pretrain_vae
from demo.pretrain_data import WordTokenizer

GUIDANCE, STEPS, BATCH = 3.0, 15, 32


class Sampler:
    """Generates images from the averaged weights of the runs in `work_dir`."""

    def __init__(self, work_dir: Path, device: torch.device):
        self.device = device
        self.tokenizer = WordTokenizer(work_dir / "tokenizer")
        self.vae = pretrain_vae.load(work_dir)[0].to(device)
        modules, self.figures = pretrain_ldm.load(work_dir)
        self.text_encoder, self.unet = (modules[name].to(device) for name in ("text_encoder", "unet"))
        self.factor = json.loads((work_dir / pretrain_vae.FACTOR_FILE).read_text())["scaling_factor"]

    @torch.no_grad()
    def _batch(self, prompts: list[str], generator: torch.Generator) -> list[Image.Image]:
        n = len(prompts)
        ids = torch.tensor([self.tokenizer(p) for p in ["", *prompts]], device=self.device)
        states = self.text_encoder(ids).last_hidden_state
        states = torch.cat([states[:1].expand(n, -1, -1), states[1:]])  # [2n, 77, width]
        latents = torch.randn(n, *pretrain_ldm.LATENT_SHAPE, generator=generator).to(self.device)
        scheduler = DPMSolverMultistepScheduler(**pretrain_ldm.SCHEDULE, **pretrain_ldm.SOLVER)
        scheduler.set_timesteps(STEPS)
        for timestep in scheduler.timesteps:
            without, with_text = self.unet(torch.cat([latents, latents]), timestep, states).sample.chunk(2)
            latents = scheduler.step(without + GUIDANCE * (with_text - without), timestep, latents).prev_sample
        pixels = self.vae.decode(latents / self.factor).sample
        arrays = ((pixels + 1) * 127.5).clamp(0, 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        return [Image.fromarray(array) for array in arrays]

    def __call__(self, prompts: list[str], seed: int = 0) -> list[Image.Image]:
        """Return one RGB image per prompt."""
        generator, images = torch.Generator().manual_seed(seed), []
        for start in range(0, len(prompts), BATCH):
            images += self._batch(prompts[start : start + BATCH], generator)
        return images


def sheet(rows: list[list[Image.Image]]) -> Image.Image:
    """Arrange images in rows."""
    width, height = rows[0][0].size
    page = Image.new("RGB", (max(map(len, rows)) * width, len(rows) * height), "white")
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            page.paste(image, (x * width, y * height))
    return page
