"""What an embedding file consists of: its container, its layout, the types of its numbers, its embeddings."""

import dataclasses
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual_inversion.formats.budget import MOST_WHOLE, Budget
from textual_inversion.formats.errors import naming
from textual_inversion.formats.layouts import ENCODERS, read_layout
from textual_inversion.formats.learned_embedding import LearnedEmbedding
from textual_inversion.formats.pickled_arrays import PickledModule, type_of
from textual_inversion.formats.reader import container_of, read_embedding_content, read_or_map

_BY_KEY = {
    "string_to_param": "string_to_param, of AUTOMATIC1111's web UI",
    "clip_l": "clip_l and clip_g, of Stable Diffusion XL",
    "emb_params": "emb_params, of kohya's scripts and InvokeAI",
    "emp_params": "emp_params, of OneTrainer",
}
_MOST_LEVELS = 3  # of dictionaries that a layout has in one another


@dataclass(frozen=True, eq=False)
class FileContents:
    """An embedding file.

    Attributes:
        container: such as "safetensors".
        layout: how its vectors are named, for people.
        types: of the numbers in it, such as "float16"; sorted.
        metadata: what the container says beside the tensors.
        embeddings: the learned embeddings, as float32.
    """

    container: str
    layout: str
    types: tuple[str, ...]
    metadata: dict[str, str]
    embeddings: tuple[LearnedEmbedding, ...]


def read_contents(path: str | os.PathLike[str]) -> FileContents:
    """Read an embedding file as `embedding_file.read_embeddings` does, and raise as it does."""
    with naming(path):
        data = read_or_map(path, MOST_WHOLE)
        budget = Budget.of_embedding(len(data))
        content, metadata = read_embedding_content(data, budget)
        embeddings = read_layout(content, metadata, Path(path).stem, budget)
        own = tuple(dataclasses.replace(embedding, source=os.fspath(path)) for embedding in embeddings)
        types = tuple(sorted(set(_types(content))))
        return FileContents(container_of(data), _layout(content, own), types, dict(metadata), own)


def _types(content: Any, levels: int = _MOST_LEVELS) -> Iterator[str]:
    found = type_of(content)
    if found is not None:
        if "float" in found or found.startswith("F"):  # beside vectors, some files hold the ids of tokens
            yield found
        return
    content = content.parameters if isinstance(content, PickledModule) else content
    if isinstance(content, dict) and levels:
        for value in content.values():
            yield from _types(value, levels - 1)


def _layout(content: dict, embeddings: tuple[LearnedEmbedding, ...]) -> str:
    known = next((text for key, text in _BY_KEY.items() if key in content), None)
    if known is not None:
        return known
    if any(isinstance(value, dict) for value in content.values()):
        return "a dictionary per concept, of Determined"
    if len(embeddings) == 1 and len(embeddings[0].vectors) == len(ENCODERS):
        return "a tensor per text encoder"
    is_split = len(content) > len(embeddings)
    return "a tensor per vector, of this project" if is_split else "a tensor per concept, as diffusers and ppdiffusers"
