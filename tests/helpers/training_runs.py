"""Short training runs on tiny random models, for the tests of the command."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import train_textual_inversion
from helpers.paths import ROOT
from helpers.tiny_models import build_model
from textual_inversion.formats.embedding_file import read_embeddings


def draw_images(folder: Path, count: int = 3) -> Path:
    """A folder of small coloured images."""
    folder.mkdir(parents=True, exist_ok=True)
    g = np.random.default_rng(0)
    for i in range(count):
        blocks = g.integers(0, 255, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((40, 32), Image.Resampling.NEAREST).save(folder / f"{i}.png")
    return folder


def masks_of(images, folder):
    """White left halves."""
    folder.mkdir(exist_ok=True)
    for path in images.glob("*.png"):
        mask = Image.new("L", Image.open(path).size, 0)
        mask.paste(255, (0, 0, mask.width // 2, mask.height))
        mask.save(folder / path.name)
    return folder


def short_run(tmp_path: Path, *more: str, family: str = "sd1", layout: str = "ppdiffusers", **model) -> list[str]:
    """Arguments of a run of two steps; `tmp_path` then holds base/, pictures/ and, after the run, out/."""
    if not (tmp_path / "base").exists():
        build_model(tmp_path / "base", family, layout, **model)
        draw_images(tmp_path / "pictures")
    settings = {
        "pretrained_model_name_or_path": tmp_path / "base",
        "train_data_dir": tmp_path / "pictures",
        "output_dir": tmp_path / "out",
        "max_train_steps": 2,
        "train_batch_size": 2,
        "learning_rate": 0.01,
        "lr_warmup_steps": 0,
        "eval_samples": 2,
        "num_inference_steps": 2,
        "seed": 3,
        "report_to": "none",
    }
    given = {word for word in more if word.startswith("--")}
    return [x for k, v in settings.items() if f"--{k}" not in given for x in (f"--{k}", str(v))] + list(more)


def launch(arguments: list[str], *, processes: int, cwd: Path) -> None:
    """Run the training command as real processes, with the workers' own output when it fails."""
    command = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", str(processes)]
    if processes == 1:
        command = [sys.executable]
    done = subprocess.run(
        [*command, str(ROOT / "train_textual_inversion.py"), *arguments],
        capture_output=True, text=True, timeout=280, cwd=cwd,
    )  # fmt: skip
    logs = [path.read_text(errors="replace")[-3000:] for path in sorted(cwd.glob("log/workerlog.*"))]
    assert done.returncode == 0, "\n".join([done.stdout[-2000:], done.stderr[-2000:], *logs])


class Stopped(Exception):
    """Raised in place of training, once a run is set up."""


def set_up(monkeypatch, argv: list[str]):
    """The run that a command line makes, before its training."""
    return set_up_all(monkeypatch, argv)[1]


def set_up_all(monkeypatch, argv: list[str]) -> tuple:
    """(settings, run) that a command line makes, before its training."""
    made = []

    def keep(config, run):
        made.append((config, run))
        raise Stopped

    monkeypatch.setattr(train_textual_inversion, "train", keep)
    with pytest.raises(Stopped):
        train_textual_inversion.main(argv)
    return made[0]


def rows_after(argv: list[str]) -> dict[str, np.ndarray]:
    """Placeholder token -> its vectors after a run."""
    train_textual_inversion.main(argv)
    return rows_in(argv, "learned_embeds.pdparams")


def rows_in(argv: list[str], name: str) -> dict[str, np.ndarray]:
    """Placeholder token -> its vectors in one of a run's files."""
    return all_vectors_in(Path(argv[argv.index("--output_dir") + 1]) / name)


def all_vectors_in(path: Path) -> dict[str, np.ndarray]:
    """Placeholder token -> its vectors [N, D] for the first text encoder in an embedding file."""
    return {one.placeholder_token: one.vectors["text_encoder"] for one in read_embeddings(path)}


def vectors_in(path: Path) -> np.ndarray:
    """The vectors [N, D] of the first concept in an embedding file, for the first text encoder."""
    return read_embeddings(path)[0].vectors["text_encoder"]
