"""Folders of runs, written as a run writes them, without training anything."""

import contextlib
import json
from pathlib import Path

import numpy as np

from textual_inversion.formats.embedding_file import LearnedEmbedding, write_pdparams, write_safetensors
from textual_inversion.system import atomic
from textual_inversion.system.written_files import CHECKPOINT, LOG, PIPELINE, WrittenFiles, of_kind

LOCAL_HASH = "local:" + "a" * 64
SMALL = {"README.md", "config.yaml", "learned_embeds.pdparams", "learned_embeds.safetensors", "run.json",
         "samples/step-1.png"}  # fmt: skip
WHOLE = {"unet/model_state.pdparams", "model_index.json"}
CONFIG = """# Repeats a run: python train_textual_inversion.py --config THIS_FILE

# concepts
train_data_dir:
- /home/ann/photos/of my cat
learning_rate: 0.1
# clip_model: /home/ann/clip
"""


def record(**more) -> dict:
    """A run.json of a run on a local base model."""
    settings = {"learning_rate": 0.1, "train_data_dir": "photos/of-ann", "logging_dir": "../../ann-private-logs",
                "pretrained_model_name_or_path": "models/sd15", "tokenizer_name": "models/tok",
                "template_file": "ann/templates.txt"}  # fmt: skip
    return {"base_model": "models/sd15", "public_base_model": LOCAL_HASH, "placeholder_token": "<cat>", "seed": 3,
            "settings": settings, "versions": {"numpy": "2"}, "figures": {"skipped_steps": 0, "overview": "/x.png"},
            "resumed": [{"step": 2, "changed": ["--train_data_dir /home/ann, now /home/bob"]}], **more}  # fmt: skip


@contextlib.contextmanager
def written_run(folder: Path, **more):
    """A folder with the files of a run; yields their list, which is kept up inside the block."""
    folder.mkdir(parents=True, exist_ok=True)
    with WrittenFiles(folder) as files:
        write(folder, **more)
        yield files


def write(folder: Path, **more) -> None:
    """Write what a run writes, each file with content of its own."""
    vectors = {"text_encoder": np.ones((1, 4), np.float32)}
    one = LearnedEmbedding("<cat>", vectors, {"base_model": "models/sd15", "steps": "3", "note": "/home/ann"})
    write_pdparams(folder / "learned_embeds.pdparams", [one])
    write_safetensors(folder / "learned_embeds.safetensors", one)
    atomic.write_text(folder / "run.json", json.dumps(record(**more)))
    atomic.write_text(folder / "config.yaml", CONFIG)
    atomic.write_text(folder / "README.md", "---\ntags: []\n---\ncard")
    atomic.make_folder(folder / "samples")
    atomic.write_bytes(folder / "samples" / "step-1.png", b"an image")
    with of_kind(PIPELINE):
        atomic.make_folder(folder / "unet")
        atomic.write_bytes(folder / "unet" / "model_state.pdparams", b"weights")
        atomic.write_text(folder / "model_index.json", "{}")
    with of_kind(LOG):
        atomic.make_folder(folder / "curves")
        atomic.write_bytes(folder / "curves" / "x.log", b"curves")
    with of_kind(CHECKPOINT), atomic.fill_folder(folder / "checkpoint-5") as temporary:
        atomic.write_new(temporary / "state", b"state")
