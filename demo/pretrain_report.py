"""Stage `report` of the pretraining: the figures of `demo/README.md` and the contact sheet.

Attributes are told zero-shot by the CLIP model: the true description of a picture competes with the same description
in which one attribute is another.
"""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F

from demo import pretrain_clip, pretrain_vae
from demo.captions import sentence
from demo.drawing import draw
from demo.pretrain_data import N_TRAIN, WordTokenizer
from demo.pretrain_sample import Sampler, as_array, sheet
from demo.specs import COLORS, NAMED_STYLES, NAMED_TOYS, PATTERNS, SCENES, SPECIES, Toy, random_toy

CHOICES = {
    "species": SPECIES, "body": tuple(COLORS), "accent": tuple(COLORS), "third": tuple(COLORS), "pattern": PATTERNS,
}  # fmt: skip
N_DRAWN, N_GENERATED, N_STYLED = 256, 128, 96
SHEET = Path(__file__).resolve().parent / "contact_sheet.png"


class Judge:
    """Tells attributes with the CLIP model."""

    def __init__(self, work_dir: Path):
        self.model, _ = pretrain_clip.load(work_dir)
        self.tokenizer = WordTokenizer(work_dir / "tokenizer")

    @torch.no_grad()
    def images(self, images: list) -> torch.Tensor:
        """Return unit features [N, P]."""
        return F.normalize(pretrain_clip.image_features(self.model, pretrain_vae.to_tensor(as_array(images))), dim=-1)

    @torch.no_grad()
    def texts(self, texts: list[str]) -> torch.Tensor:
        """Return unit features [N, P]."""
        ids = torch.tensor([self.tokenizer(text)[: pretrain_clip.SHOWN_TOKENS] for text in texts])
        return F.normalize(pretrain_clip.text_features(self.model, ids), dim=-1)

    def accuracy(self, features: torch.Tensor, shown: list[tuple], variants) -> float:
        """Return how often the true sentence, which `variants` puts first, is the nearest one."""
        hits = [self.texts(variants(*what)) @ feature for what, feature in zip(shown, features, strict=True)]
        return sum(int(scores.argmax()) == 0 for scores in hits) / len(hits)


def toy_variants(attribute: str):
    """Return a function that lists the sentences of a toy: the true one, then those with another value."""

    def variants(toy: Toy, scene: str) -> list[str]:
        others = [value for value in CHOICES[attribute] if value != getattr(toy, attribute)]
        return [sentence(toy, scene)] + [sentence(replace(toy, **{attribute: value}), scene) for value in others]

    return variants


def scene_variants(toy: Toy, scene: str) -> list[str]:
    """List the sentences of a toy in every scene, the true one first."""
    return [sentence(toy, scene)] + [sentence(toy, other) for other in SCENES if other != scene]


def style_variants(toy: Toy, scene: str, style_name: str) -> list[str]:
    """List the sentences of a picture in every named style, the true one first."""
    others = [name for name in NAMED_STYLES if name != style_name]
    return [sentence(toy, scene, style_name=style_name)] + [sentence(toy, scene, style_name=name) for name in others]


def accuracies(judge: Judge, images: list, shown: list[tuple]) -> dict[str, float]:
    """Return the accuracy of each attribute of photos of toys."""
    features = judge.images(images)
    figures = {name: judge.accuracy(features, shown, toy_variants(name)) for name in CHOICES}
    figures["scene"] = judge.accuracy(features, shown, scene_variants)
    return {name: round(value, 3) for name, value in figures.items()}


def random_scenes(count: int, seed: int) -> list[tuple[Toy, str]]:
    """Return random toys, each in a scene."""
    rng = random.Random(seed)
    return [(random_toy(rng), rng.choice(SCENES)) for _ in range(count)]


def contact_sheet(sampler: Sampler) -> None:
    """Draw the sheet: described toys, named toys, the named toys' true drawings, named styles, true styles."""
    described = random_scenes(12, seed=1)
    names, styles = list(NAMED_TOYS)[:12], list(NAMED_STYLES)[:12]
    rows = [
        sampler([sentence(*what) for what in described]),
        [draw(*what) for what in described],
        sampler([f"a photo of a {name} {SCENES[i % 6]}" for i, name in enumerate(names)]),
        [draw(NAMED_TOYS[name], SCENES[i % 6]) for i, name in enumerate(names)],
        sampler([f"a {SPECIES[i % 6]} in the style of {style}" for i, style in enumerate(styles)]),
        [draw(Toy(SPECIES[i % 6], "orange", "blue", "red", "plain"), SCENES[i % 6], NAMED_STYLES[style])
         for i, style in enumerate(styles)],
    ]  # fmt: skip
    sheet(rows).save(SHEET, optimize=True)


def report(work_dir: Path) -> dict:
    """Measure, print, and write `report.json` into the work directory."""
    judge, sampler = Judge(work_dir), Sampler(work_dir)
    drawn, generated = random_scenes(N_DRAWN, seed=2), random_scenes(N_GENERATED, seed=3)
    names = list(NAMED_TOYS)[:N_GENERATED]
    named = [(NAMED_TOYS[name], SCENES[i % len(SCENES)]) for i, name in enumerate(names)]
    rng = random.Random(4)
    styled = [(*what, rng.choice(list(NAMED_STYLES))) for what in random_scenes(N_STYLED, seed=5)]
    figures = {
        "vae_psnr": round(pretrain_vae.evaluate(work_dir), 2),
        "drawn": accuracies(judge, [draw(*what, seed=N_TRAIN + i) for i, what in enumerate(drawn)], drawn),
        "generated_described": accuracies(judge, sampler([sentence(*what) for what in generated]), generated),
        "generated_named": accuracies(
            judge,
            sampler([f"a photo of a {name} {scene}" for name, (_, scene) in zip(names, named, strict=True)]),
            named,
        ),
        "style_drawn": judge.accuracy(
            judge.images([draw(toy, scene, NAMED_STYLES[name]) for toy, scene, name in styled]), styled, style_variants
        ),
        "style_generated": judge.accuracy(
            judge.images(sampler([sentence(toy, scene, style_name=name) for toy, scene, name in styled])),
            styled,
            style_variants,
        ),
        "diffusion": sampler.figures,
        "clip": pretrain_clip.load(work_dir)[1],
    }
    print(json.dumps(figures, indent=2), flush=True)
    (work_dir / "report.json").write_text(json.dumps(figures, indent=2) + "\n")
    contact_sheet(sampler)
    return figures
