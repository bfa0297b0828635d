"""Learned embeddings to write, and what tests do with the files."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from textual_inversion.formats.embedding_file import LearnedEmbedding, read_embeddings, write_pdparams


def concept(token: str = "<cat>", vectors: int = 2, width: int = 4, seed: int = 0, **metadata: str) -> LearnedEmbedding:
    values = np.random.default_rng(seed).standard_normal((vectors, width), np.float32)
    return LearnedEmbedding(token, {"text_encoder": values}, metadata)


def concept_xl(token: str = "<cat>", vectors: int = 2) -> LearnedEmbedding:
    first, second = np.ones((vectors, 4), np.float32), np.full((vectors, 6), 2, np.float32)
    return LearnedEmbedding(token, {"text_encoder": first, "text_encoder_2": second})


def stored(tmp_path: Path, data: bytes, name: str = "my-cat.xyz") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def read_one(tmp_path: Path, data: bytes) -> LearnedEmbedding:
    (read,) = read_embeddings(stored(tmp_path, data))
    return read


def assert_same(one: LearnedEmbedding, other: LearnedEmbedding) -> None:
    assert one.placeholder_token == other.placeholder_token
    assert list(one.vectors) == list(other.vectors)
    for name in one.vectors:
        assert one.vectors[name].dtype == np.float32
        np.testing.assert_array_equal(one.vectors[name], other.vectors[name])


def learned(token: str = "<cat-toy>", vectors: int = 1, width: int = 32, seed: int = 1, **metadata: str):
    """An embedding as wide as the demo's."""
    return concept(token, vectors, width, seed, **metadata)


def stored_with_record(path: Path, *concepts: LearnedEmbedding, record: dict[str, Any] | None = None) -> Path:
    """A file of embeddings, and beside it the run.json of the run that is said to have written it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_pdparams(path, concepts)
    if record is not None:
        (path.parent / "run.json").write_text(json.dumps(record))
    return path
