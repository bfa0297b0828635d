"""Folders of runs with figures and validation images, for the tests of pages about them."""

import json
import re

from PIL import Image

from textual_inversion.generation import image_grid, png_files


def colour(*rgb, side=32):
    """A square of one colour."""
    return Image.new("RGB", (side, side), rgb)


def run_folder(folder, *, prompts=("a photo of a <w>",), frames=((0, [(200, 0, 0)]), (10, [(0, 0, 200)])), **more):
    """The folder of a run with validation images."""
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    listed = [{"text": text, "caption": text} for text in prompts]
    settings = {"max_train_steps": 10, "learning_rate": 0.5, "sample_prompts": listed, **more.pop("settings", {})}
    record = {"placeholder_token": "<w>", "base_model": "demo/model", "seed": 3, "settings": settings, **more}
    (folder / "run.json").write_text(json.dumps(record))
    strip = image_grid.strip([(step, [colour(*rgb) for rgb in row]) for step, row in frames], prompts=list(prompts))
    png_files.save_png(strip, folder / "samples/over-time.png", text={"frames": strip.info["frames"]})
    lines = [
        {"step": s, "train/loss": 1.0 / (1 + s), "eval/fixed_set_loss": 2.0 / (1 + s) ** 3} for s in range(0, 11, 2)
    ]
    (folder / "figures.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def data_of(path):
    """The data that a page gives its script."""
    page = path.read_text()
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
