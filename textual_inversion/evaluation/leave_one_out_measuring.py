"""Learn a word again without each of its training images, and measure what that gains: see `leave_one_out`."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from textual_inversion.data.templates import plain_template
from textual_inversion.embeddings.files import ConceptFile
from textual_inversion.evaluation.clip import ClipScorer
from textual_inversion.evaluation.leave_one_out import Without, gains
from textual_inversion.evaluation.pairs_measuring import requests_of
from textual_inversion.evaluation.scoring import Protocol
from textual_inversion.generation.generate import generate
from textual_inversion.models.attach import attach_files
from textual_inversion.models.base_model import BaseModel
from textual_inversion.system import atomic, user_files
from textual_inversion.system.progress import print_note


def measure_without_each(
    model: BaseModel,
    scorer: ClipScorer,
    word: str,
    paths: Sequence[Path],
    images: Sequence[Image.Image],
    learn: Callable[[Path, Path], ConceptFile],
    protocol: Protocol,
) -> list[Without]:
    """What leaving out each training image gains.

    Args:
        model: with the word attached, learned from all images; it ends with that learned without the last one.
        paths: the files of the training images.
        images: the same, as training saw them.
        learn: (folder of the images that are left, folder for the run) -> the word learned from these.
        protocol: `num_images` of the plain prompt, and how they are drawn.
    """
    whole, without = _features(model, scorer, word, protocol), []
    for number, path in enumerate(paths):
        print_note(f"training without {path.name}, {number + 1} of {len(paths)}")
        with tempfile.TemporaryDirectory(prefix="textual-inversion-") as scratch:
            others = copy_of_all_but(path, Path(scratch) / "images")
            attach_files(model, [learn(others, Path(scratch) / "run")])
            without.append(_features(model, scorer, word, protocol))
    return gains([path.name for path in paths], whole, without, scorer.image_features(images))


def _features(model: BaseModel, scorer: ClipScorer, word: str, protocol: Protocol) -> np.ndarray:
    """CLIP features of the plain prompt of a word, drawn with the vectors that the model has: float32 [n, P]."""
    prompt = plain_template(protocol.learnable_property, protocol.language).replace("{}", word)
    return scorer.image_features(generate(model, requests_of(prompt, protocol), batch_size=protocol.batch_size))


def copy_of_all_but(left_out: Path, folder: Path) -> Path:
    """A folder with the files beside an image, captions too, but neither the image nor what has its name."""
    atomic.make_folder(folder)
    for path in sorted(left_out.parent.iterdir()):
        if path.is_file() and path.stem != left_out.stem:
            atomic.write_bytes(folder / path.name, user_files.read_bytes(path, user_files.IMAGE))
    return folder
