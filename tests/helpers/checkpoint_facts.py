"""Checkpoints without a run: the facts that each has, and a folder whose check sums are right whatever it holds."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from textual_inversion.training import checkpoints
from textual_inversion.training.checkpoints import Checkpoint


def facts_of_a_run(**changes: Any) -> dict[str, Any]:
    """What a run writes into checkpoint.json, besides step and serial."""
    facts = {
        "loss": 0.5,
        "learning_rate": 1e-3,
        "processes": 1,
        "settings": {"--seed": 3},
        "figures": {},
        "resumed": [],
    }
    return facts | changes


def save_checkpoint(output: Path, step: int, value: float = 0.0, **changes: Any) -> Path:
    """A checkpoint with one concept's vectors."""
    vectors = np.full((2, 4), value, np.float32)
    return checkpoints.save(output, Checkpoint(step, {"rows/text_encoder/0": vectors}, facts_of_a_run(**changes)))


def put_facts(folder: Path, content: bytes) -> None:
    """Replace a checkpoint's facts as a stranger would, with check sums that are right."""
    (folder / checkpoints.FACTS_FILE).write_bytes(content)
    contents = [(name, (folder / name).read_bytes()) for name in (checkpoints.STATE_FILE, checkpoints.FACTS_FILE)]
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in contents)
    (folder / checkpoints.SUMS_FILE).write_text(sums)


def change_facts(folder: Path, change: Any) -> None:
    """Let `change` work on a checkpoint's facts, and put the check sums right."""
    facts = json.loads((folder / checkpoints.FACTS_FILE).read_bytes())
    change(facts)
    put_facts(folder, json.dumps(facts).encode())
