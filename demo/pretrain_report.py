"""Stage `report` of the pretraining: its progress, while the model is still in PyTorch.

The figures that count are those of the exported model (`demo/report.py`). These show whether more training is needed.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from demo import judging, pretrain_clip, pretrain_vae
from demo.judging import ATTRIBUTES, STYLE
from demo.pretrain_data import N_TRAIN, WordTokenizer
from demo.pretrain_sample import Sampler, sheet
from demo.specs import NAMED_TOYS, PAINTING, SCENES, SKETCH
from demo.toyworld import FIRST_PAIR

COUNT, COLUMNS = 128, 12


class TorchScorer:
    """The CLIP model of the pretraining, in the form that `judging.accuracies` takes."""

    def __init__(self, work_dir: Path, device: torch.device):
        self.model, self.device = pretrain_clip.load(work_dir)[0].to(device), device
        self.tokenizer = WordTokenizer(work_dir / "tokenizer")

    @torch.no_grad()
    def image_features(self, images: list) -> np.ndarray:
        """Return unit features [N, P]."""
        pixels = pretrain_vae.to_tensor(np.stack([np.asarray(image) for image in images])).to(self.device)
        return F.normalize(pretrain_clip.image_features(self.model, pixels), dim=-1).cpu().numpy()

    @torch.no_grad()
    def text_features(self, texts: list[str], *, trimmed: bool = False) -> np.ndarray:
        """Return unit features [N, P]."""
        ids = torch.tensor([self.tokenizer(text)[: pretrain_clip.SHOWN_TOKENS] for text in texts], device=self.device)
        parts = [pretrain_clip.text_features(self.model, part) for part in ids.split(1024)]
        return F.normalize(torch.cat(parts), dim=-1).cpu().numpy()


def look(sampler: Sampler, file: Path) -> None:
    """Draw a sheet: described and named toys, worn things, pairs, media, styles; drawings below where there are any."""
    names = list(NAMED_TOYS)[:COLUMNS]
    described, styled = judging.random_shown(COLUMNS, seed=1), judging.random_styled(COLUMNS, seed=1)
    pairs = judging.named_pairs(COLUMNS)
    worn = ("wearing a hat", "wearing a backpack", "holding a balloon", "backpack")
    sheet([
        sampler([one.description for one in described]),
        [one.drawing(i) for i, one in enumerate(described)],
        sampler([f"a {name} {worn[i % 4]}" for i, name in enumerate(names)]),
        sampler([f"a photo of a {one.toy_name} and a {one.beside_name} {one.scene}" for one in pairs]),
        [one.draw() for one in pairs],
        sampler([f"a {(SKETCH, PAINTING)[i % 2]} of a {name} {SCENES[i % 6]}" for i, name in enumerate(names)]),
        sampler([one.description for one in styled]),
        [one.drawing(i) for i, one in enumerate(styled)],
    ]).save(file)  # fmt: skip


def report(work_dir: Path, device: torch.device) -> None:
    """Measure, print, and write `report.json` and `sheet.png` into the work directory."""
    scorer, sampler = TorchScorer(work_dir, device), Sampler(work_dir, device)
    shown, styled = judging.random_shown(COUNT, seed=2), judging.random_styled(COUNT, seed=5)
    figures = {"psnr": pretrain_vae.evaluate(work_dir), "psnr of pairs": pretrain_vae.evaluate(work_dir, FIRST_PAIR)}
    for name, make in (
        ("drawings", lambda what: [one.drawing(N_TRAIN + i) for i, one in enumerate(what)]),
        ("pictures", lambda what: sampler([one.description for one in what])),
    ):
        told = judging.accuracies(scorer, make(shown), shown, ATTRIBUTES)
        figures[name] = told | judging.accuracies(scorer, make(styled), styled, (STYLE,))
    figures |= {"diffusion": sampler.figures, "clip": pretrain_clip.load(work_dir)[1]}
    print(json.dumps(figures, indent=2), flush=True)
    (work_dir / "report.json").write_text(json.dumps(figures, indent=2) + "\n")
    look(sampler, work_dir / "sheet.png")
