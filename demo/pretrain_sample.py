"""Pictures from the diffusion model while it is still in PyTorch: for the report and for a look during training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler
from PIL import Image

from demo import pretrain_ldm, pretrain_vae
from demo.pretrain_data import WordTokenizer

GUIDANCE, STEPS, BATCH = 3.0, 30, 32


class Sampler:
    """Generates pictures from the averaged weights of the runs in `work_dir`."""

    def __init__(self, work_dir: Path):
        self.tokenizer = WordTokenizer(work_dir / "tokenizer")
        self.vae, _ = pretrain_vae.load(work_dir)
        modules, self.figures = pretrain_ldm.load(work_dir)
        self.text_encoder, self.unet = modules["text_encoder"], modules["unet"]
        self.factor = json.loads((work_dir / pretrain_vae.FACTOR_FILE).read_text())["scaling_factor"]
        self.scheduler = DDIMScheduler(
            **pretrain_ldm.SCHEDULE, clip_sample=False, set_alpha_to_one=False, steps_offset=1
        )

    @torch.no_grad()
    def _batch(self, prompts: list[str], generator: torch.Generator, guidance: float, steps: int) -> list[Image.Image]:
        n = len(prompts)
        ids = torch.tensor([self.tokenizer(p) for p in ["", *prompts]])
        states = self.text_encoder(ids).last_hidden_state
        states = torch.cat([states[:1].expand(n, -1, -1), states[1:]])  # [2n, 77, width]
        latents = torch.randn(n, pretrain_ldm.CONFIG["in_channels"], 8, 8, generator=generator)
        self.scheduler.set_timesteps(steps)
        for timestep in self.scheduler.timesteps:
            without, with_text = self.unet(torch.cat([latents, latents]), timestep, states).sample.chunk(2)
            noise = without + guidance * (with_text - without)
            latents = self.scheduler.step(noise, timestep, latents).prev_sample
        pixels = self.vae.decode(latents / self.factor).sample
        arrays = ((pixels + 1) * 127.5).clamp(0, 255).round().byte().permute(0, 2, 3, 1).numpy()
        return [Image.fromarray(array) for array in arrays]

    def __call__(
        self, prompts: list[str], seed: int = 0, guidance: float = GUIDANCE, steps: int = STEPS
    ) -> list[Image.Image]:
        """Return one RGB picture per prompt."""
        generator, images = torch.Generator().manual_seed(seed), []
        for start in range(0, len(prompts), BATCH):
            images += self._batch(prompts[start : start + BATCH], generator, guidance, steps)
        return images


def sheet(rows: list[list[Image.Image]], scale: int = 2) -> Image.Image:
    """Arrange pictures in rows, enlarged by a whole number."""
    width, height = rows[0][0].size
    page = Image.new("RGB", (max(map(len, rows)) * width, len(rows) * height), "white")
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            page.paste(image, (x * width, y * height))
    return page.resize((page.width * scale, page.height * scale), Image.Resampling.NEAREST)


def as_array(images: list[Image.Image]) -> np.ndarray:
    """Stack pictures, uint8 [N, H, W, 3]."""
    return np.stack([np.asarray(image) for image in images])
