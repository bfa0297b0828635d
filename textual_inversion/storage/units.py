"""Which files of a folder are of use only together, at any depth: a search has a folder of a run for each trial.

A *unit* is a checkpoint, or a pipeline: files of which a reader needs all. Its *seal* is the file without which it is
none: `SHA256SUMS` of a checkpoint, `model_index.json` beside the parts of a pipeline.
"""

import re
from collections.abc import Collection, Iterator

SUMS, INDEX = "SHA256SUMS", "model_index.json"
# Folders of a saved pipeline. What else lies beside its index, such as logs, is no part of it.
PARTS = frozenset({
    "unet", "vae", "vqvae", "bert", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler",
    "safety_checker", "feature_extractor", "image_encoder",
})  # fmt: skip
_CHECKPOINT = re.compile(r"checkpoint-\d{1,18}", re.ASCII)


def is_seal(name: str) -> bool:
    """Whether a unit is of no use without a file."""
    folder, _, own = name.rpartition("/")
    return own == INDEX or (own == SUMS and folder != "")


def seal_of(name: str, seals: Collection[str]) -> str:
    """The seal of the unit that a file is in, or that it seals itself; "" for a file of none.

    Args:
        seals: all files for which `is_seal` holds.
    """
    if is_seal(name):
        return name
    inside = ""
    for folder in folders_of(name):
        if f"{folder}/{SUMS}" in seals:
            return f"{folder}/{SUMS}"
        index = f"{folder.rpartition('/')[0]}/{INDEX}".lstrip("/")
        if folder.rpartition("/")[2] in PARTS and index in seals:
            inside = index
    return inside


def checkpoint_of(name: str) -> str:
    """The checkpoint that a file lies in; "" for any other."""
    return next((folder for folder in folders_of(name) if _CHECKPOINT.fullmatch(folder.rpartition("/")[2])), "")


def folders_of(name: str) -> Iterator[str]:
    """The folders that a file lies in, the innermost first."""
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name
