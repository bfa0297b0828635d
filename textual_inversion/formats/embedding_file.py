"""Read and write embedding files. Files come from strangers, so reading is safe.

The content of a file decides what it is, never its name. Nothing that a file names is imported or called, declared
sizes are checked against the file before anything is allocated, and neither Paddle nor PyTorch is needed.

    read_embeddings        every layout in `layouts`, in .pdparams, safetensors, .pt and .bin
    read_pickled_tensors   the weights in a `model_state.pdparams` or `pytorch_model.bin`
    write_pdparams         what `paddle.load` reads: one key per vector
    write_safetensors      one concept, with metadata

Errors, each one line with the file's name and the way out:

    EmbeddingFileError
    ├── UnreadableFile    missing, a folder, a device, no permission
    ├── NotAnEmbedding    a file of another kind, or with other contents
    ├── RefusedFile       asks for more than arrays and containers; names what it asks for
    ├── BrokenFile        cut short, damaged, declares more than it holds
    ├── AsksTooMuch       wants more memory or work than an embedding needs
    ├── WrongValues       not floating point, NaN or infinite, no vectors
    ├── WrongWidth        made for a base model of another width
    ├── UnusableToken     the placeholder token is empty or holds blanks (also a ConceptError)
    └── TokenTaken        the placeholder token is already a token of the base model (also a ConceptError)
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from textual_inversion.formats.budget import MOST_WHOLE, Budget
from textual_inversion.formats.errors import (
    AsksTooMuch,
    BrokenFile,
    NotAnEmbedding,
    RefusedFile,
    TokenTaken,
    UnreadableFile,
    UnusableToken,
    WrongValues,
    WrongWidth,
    naming,
    quoted,
)
from textual_inversion.formats.layouts import ENCODERS, group_vectors, read_layout
from textual_inversion.formats.learned_embedding import LearnedEmbedding, check_token, check_width
from textual_inversion.formats.paddle_file import pdparams_bytes
from textual_inversion.formats.pickled_arrays import array_of
from textual_inversion.formats.reader import map_whole, read_content, read_embedding_content, read_or_map
from textual_inversion.formats.safetensors_file import safetensors_bytes
from textual_inversion.system import atomic
from textual_inversion.system.errors import EmbeddingFileError, OutputError

__all__ = [
    "AsksTooMuch",
    "BrokenFile",
    "LearnedEmbedding",
    "NotAnEmbedding",
    "RefusedFile",
    "TokenTaken",
    "UnreadableFile",
    "UnusableToken",
    "WrongValues",
    "WrongWidth",
    "check_token",
    "check_width",
    "pdparams_content",
    "read_embeddings",
    "read_pickled_tensors",
    "read_weights",
    "write_pdparams",
    "write_safetensors",
]

_CONTAINERS = ("state_dict", "model")  # under which training programs nest the weights
_WAYS_OUT_FOR_WEIGHTS = {NotAnEmbedding: "choose a file of weights, preferably a .safetensors"}


def read_embeddings(path: str | os.PathLike[str]) -> list[LearnedEmbedding]:
    """The learned embeddings in a file, as float32 whatever the file's precision.

    The placeholder token is the name that the file gives to a concept, else the file's own name without its ending.

    Raises:
        UnreadableFile, NotAnEmbedding, RefusedFile, BrokenFile, AsksTooMuch, WrongValues: see the tree above.
    """
    with naming(path):
        data = read_or_map(path, MOST_WHOLE)
        budget = Budget.of_embedding(len(data))
        content, metadata = read_embedding_content(data, budget)
        embeddings = read_layout(content, metadata, Path(path).stem, budget)
        return [dataclasses.replace(embedding, source=os.fspath(path)) for embedding in embeddings]


def read_pickled_tensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The weights in a pickled state dictionary, by name; also reads safetensors.

    float32, float16, float64 and bfloat16 arrive as float32, integers and booleans as they are. float32 arrays are
    read-only views of the mapped file and may be unaligned: copy those that you keep. Replace such a file by renaming,
    as `system.atomic` does: shortening it in place while it is mapped ends the process.

    Raises:
        UnreadableFile, NotAnEmbedding, RefusedFile, BrokenFile, AsksTooMuch: see the tree above.
    """
    return read_weights(path, _WAYS_OUT_FOR_WEIGHTS)[0]


def read_weights(
    path: str | os.PathLike[str], ways_out: Mapping[type[EmbeddingFileError], str]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """As `read_pickled_tensors`, with the metadata of a safetensors file.

    Args:
        ways_out: by the class of an error, the way out that its message names.
    """
    with naming(path, ways_out):
        data = map_whole(path)
        content, metadata = read_content(data, Budget.of_weights(len(data)))
        for name in _CONTAINERS:
            if isinstance(content, dict) and isinstance(content.get(name), dict):
                content = content[name]
        if not isinstance(content, dict):
            raise NotAnEmbedding("does not hold a dictionary of weights")
        tensors = {str(name): array_of(value) for name, value in content.items()}
        missing = next((name for name, tensor in tensors.items() if tensor is None), None)
        if missing is not None or not tensors:
            name = "" if missing is None else f" under {quoted(missing, 120)}"
            raise NotAnEmbedding(f"holds no tensor{name}; it is not a dictionary of weights")
        return tensors, metadata


def pdparams_content(embeddings: Sequence[LearnedEmbedding]) -> bytes:
    """The bytes of a file from which `paddle.load` gives one float32 tensor [1, D] per vector.

    The keys are "<t>", "<t>_1", "<t>_2", … For Stable Diffusion XL there are two such dictionaries, under "clip_l" and
    "clip_g". Equal input gives equal bytes.

    Raises:
        OutputError: the names of two concepts collide.
    """
    by_encoder = {name: _keys(embeddings, encoder) for name, encoder in ENCODERS.items()}
    if not by_encoder["clip_g"]:
        return pdparams_bytes(by_encoder["clip_l"])
    if list(by_encoder["clip_g"]) == list(by_encoder["clip_l"]):
        return pdparams_bytes(by_encoder)
    raise OutputError("concepts with one and with two text encoders need a file each")


def write_pdparams(path: str | os.PathLike[str], embeddings: Sequence[LearnedEmbedding]) -> None:
    """Write `pdparams_content`.

    Raises:
        OutputError: the file cannot be written, or the names of two concepts collide.
    """
    try:
        content = pdparams_content(embeddings)
    except OutputError as error:
        raise OutputError(f"cannot write {path}: {error}") from error
    atomic.write_bytes(path, content)


def write_safetensors(path: str | os.PathLike[str], embedding: LearnedEmbedding) -> None:
    """Write one learned embedding as {"<t>": [N, D]}, for Stable Diffusion XL as clip_l and clip_g, with its metadata.

    The metadata also names the placeholder token. Equal input gives equal bytes.

    Raises:
        OutputError: the file cannot be written.
    """
    if len(embedding.vectors) == 1:
        tensors = {embedding.placeholder_token: embedding.vectors["text_encoder"]}
    else:
        tensors = {name: embedding.vectors[encoder] for name, encoder in ENCODERS.items()}
    metadata = {"format": "pt", "placeholder_token": embedding.placeholder_token}
    metadata |= {key: str(value) for key, value in embedding.metadata.items() if key not in metadata}
    atomic.write_bytes(path, safetensors_bytes(tensors, metadata))


def _keys(embeddings: Sequence[LearnedEmbedding], encoder: str) -> dict[str, np.ndarray]:
    """{"<t>": [1, D], "<t>_1": [1, D], …} of all concepts; readers must be able to tell them apart again."""
    arrays: dict[str, np.ndarray] = {}
    wanted: dict[str, list[str]] = {}
    for embedding in embeddings:
        token = embedding.placeholder_token
        vectors = embedding.vectors.get(encoder, ())
        names = [token if index == 0 else f"{token}_{index}" for index in range(len(vectors))]
        if arrays.keys() & set(names):
            raise OutputError(f"{token} is the name of two concepts or of a vector; rename one")
        arrays |= {name: np.asarray(vectors[index : index + 1], np.float32) for index, name in enumerate(names)}
        wanted |= {token: names} if names else {}
    if group_vectors(arrays) != wanted:
        raise OutputError("one concept's name is another's with a number; write one file each")
    return arrays
