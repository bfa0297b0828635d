"""Draws the images that ship with the demo: six of each held-out concept, the same ones every time.

python -m demo.draw_images
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

from PIL import Image

from demo import drawing
from demo.specs import HELD_OUT_STYLE, HELD_OUT_TOYS, PHOTO, SCENES, SPECIES, random_toy

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"cat": "cat_toy_images", "rabbit": "demo/rabbit_toy_images", "style": "demo/style_images"}
SIZE = 512
FIRST_SEED = 2**40  # past every seed of the training world and of `toyworld.fresh_drawings`
LICENSE = """These pictures were drawn by this project (demo/draw_images.py).

Licensed under the Apache License, Version 2.0:
http://www.apache.org/licenses/LICENSE-2.0
"""


def shipped_images(name: str, size: int = SIZE) -> list[Image.Image]:
    """Return the six shipped images of a held-out concept: each in another scene."""
    rng = random.Random(FIRST_SEED)
    images = []
    for number, scene in enumerate(SCENES):
        toy, style = HELD_OUT_TOYS.get(name), PHOTO
        if toy is None:
            toy, style = replace(random_toy(rng), species=SPECIES[number]), HELD_OUT_STYLE
        images.append(drawing.draw(toy, scene, style, size, seed=FIRST_SEED + number))
    return images


def main() -> None:
    """Write all folders."""
    for name, folder in FOLDERS.items():
        target = ROOT / folder
        target.mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(shipped_images(name), 1):
            image.save(target / f"{name}-{number}.png", optimize=True)
        (target / "LICENSE.txt").write_text(LICENSE, encoding="utf-8")
        print(f"{target.relative_to(ROOT)}: {len(SCENES)} pictures")


if __name__ == "__main__":
    main()
