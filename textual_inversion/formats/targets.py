"""The layouts that learned embeddings are written in for other programs, and what each can hold.

    pdparams       this project, paddle.load, ppdiffusers     a tensor per vector, any number of concepts
    safetensors    this project, diffusers, ppdiffusers       {TOKEN: [N, D]}, SDXL clip_l and clip_g; metadata
    diffusers-bin  diffusers' .bin                            {TOKEN: [N, D]}, SDXL a file per text encoder
    webui-pt       AUTOMATIC1111's web UI, .pt                string_to_param, SDXL clip_l and clip_g
    webui-png      the same inside an image                   string_to_param, one text encoder
    kohya, invoke, comfyui                                    {emb_params: [N, D]}, SDXL clip_l and clip_g; metadata
    onetrainer                                                {emp_params: [N, D]}, SDXL clip_l and clip_g; metadata

Programs that look for no placeholder token in a file call a concept as its file is called.
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from textual_inversion.formats.embedding_file import pdparams_content
from textual_inversion.formats.layouts import ENCODERS
from textual_inversion.formats.learned_embedding import LearnedEmbedding
from textual_inversion.formats.safetensors_file import safetensors_bytes
from textual_inversion.formats.torch_writer import torch_bytes
from textual_inversion.formats.webui_png import png_bytes

_STAR = 265  # the id of "*" in CLIP's vocabulary, which the web UI writes and nobody reads
_LARGEST_STEP = 2**31


@dataclass(frozen=True, eq=False)
class Cover:
    """An image that a file shows for its concept.

    Attributes:
        thumbnail: a small JPEG.
        pixels: uint8 [H, W, 3].
    """

    thumbnail: bytes
    pixels: np.ndarray


@dataclass(frozen=True)
class Writing:
    """How a file is written.

    Attributes:
        is_half: as float16; the vectors are rounded to it already.
        cover: an image to show, None for none.
    """

    is_half: bool = False
    cover: Cover | None = None


@dataclass(frozen=True)
class Target:
    """One layout.

    Attributes:
        name: what `--to` calls it.
        ending: of its files.
        encode: the bytes of a file that holds some embeddings.
        prompt: what the program's prompts say for a concept, from its {token} and the {stem} of its file's name.
        holds_many: a file may hold several concepts.
        splits_encoders: the two text encoders of Stable Diffusion XL have a file each.
        most_encoders: how many text encoders it can hold vectors for.
        holds_half: it has float16.
        shows_cover: it has room for an image.
        is_for_diffusers: diffusers takes the placeholder token from the file.
    """

    name: str
    ending: str
    encode: Callable[[Sequence[LearnedEmbedding], Writing], bytes]
    prompt: str = "{token}"
    holds_many: bool = False
    splits_encoders: bool = False
    most_encoders: int = 2
    holds_half: bool = True
    shows_cover: bool = False
    is_for_diffusers: bool = False


def _pdparams(embeddings: Sequence[LearnedEmbedding], _: Writing) -> bytes:
    return pdparams_content(embeddings)


def _safetensors(embeddings: Sequence[LearnedEmbedding], writing: Writing) -> bytes:
    """A tensor under the placeholder token, for Stable Diffusion XL clip_l and clip_g."""
    return _with_metadata(embeddings[0], embeddings[0].placeholder_token, writing)


def _under(name: str) -> Callable[[Sequence[LearnedEmbedding], Writing], bytes]:
    """A tensor under one name whatever the concept is called, for Stable Diffusion XL clip_l and clip_g."""
    return lambda embeddings, writing: _with_metadata(embeddings[0], name, writing)


def _with_metadata(embedding: LearnedEmbedding, name: str, writing: Writing) -> bytes:
    metadata = {"format": "pt", "placeholder_token": embedding.placeholder_token}
    metadata |= {key: str(value) for key, value in embedding.metadata.items() if key not in metadata}
    if writing.cover is not None:
        metadata |= cover_metadata(writing.cover.thumbnail)
    return safetensors_bytes(_by_encoder(embedding, name), metadata, is_half=writing.is_half)


def _by_encoder(embedding: LearnedEmbedding, name: str) -> dict[str, np.ndarray]:
    if len(embedding.vectors) == 1:
        return {name: embedding.vectors["text_encoder"]}
    return {key: embedding.vectors[encoder] for key, encoder in ENCODERS.items()}


def _torch_tensors(embeddings: Sequence[LearnedEmbedding], writing: Writing) -> bytes:
    embedding = embeddings[0]
    return torch_bytes(_typed(_by_encoder(embedding, embedding.placeholder_token), writing))


def _webui_pt(embeddings: Sequence[LearnedEmbedding], writing: Writing) -> bytes:
    embedding = embeddings[0]
    if len(embedding.vectors) > 1:  # the web UI takes every entry of such a file for a tensor, so nothing else is in it
        return torch_bytes(_typed(_by_encoder(embedding, ""), writing))
    return torch_bytes(_webui_content(embedding, writing))


def _webui_png(embeddings: Sequence[LearnedEmbedding], writing: Writing) -> bytes:
    embedding = embeddings[0]
    image = drawn(embedding.vectors["text_encoder"]) if writing.cover is None else writing.cover.pixels
    return png_bytes(_webui_content(embedding, writing), image)


def _webui_content(embedding: LearnedEmbedding, writing: Writing) -> dict[str, Any]:
    steps = embedding.metadata.get("steps", "")
    is_count = steps.isascii() and steps.isdecimal() and int(steps) < _LARGEST_STEP
    return {
        "string_to_token": {"*": _STAR},
        "string_to_param": _typed(_by_encoder(embedding, "*"), writing),
        "name": embedding.placeholder_token,
        "step": int(steps) if is_count else None,
        "sd_checkpoint": None,
        "sd_checkpoint_name": embedding.metadata.get("base_model") or embedding.metadata.get("learned_on"),
    }


def _typed(tensors: Mapping[str, np.ndarray], writing: Writing) -> dict[str, np.ndarray]:
    return {name: array.astype(np.float16 if writing.is_half else np.float32) for name, array in tensors.items()}


def cover_metadata(thumbnail: bytes) -> dict[str, str]:
    """The entries of a safetensors file's metadata under which programs look for an image.

    The web UI and ComfyUI look for ssmd_cover_images; SwarmUI, and whoever follows the ModelSpec standard, for
    modelspec.thumbnail.
    """
    text = base64.b64encode(thumbnail).decode()
    return {"ssmd_cover_images": json.dumps([text]), "modelspec.thumbnail": f"data:image/jpeg;base64,{text}"}


def drawn(vectors: np.ndarray, side: int = 512) -> np.ndarray:
    """An image of vectors, uint8 [side, side, 3]: a square for each number, red above zero and blue below."""
    numbers = vectors.reshape(-1)
    across = int(np.ceil(np.sqrt(len(numbers))))
    shares = np.zeros(across * across, np.float32)
    shares[: len(numbers)] = numbers / (np.abs(numbers).max() or 1.0)
    positions = np.arange(side) * across // side
    squares = shares.reshape(across, across)[positions][:, positions]
    above, below = np.clip(squares, 0, 1), np.clip(-squares, 0, 1)
    return (255 - 200 * np.stack([below, np.maximum(above, below), above], axis=2)).astype(np.uint8)


_ALL = (
    Target("pdparams", ".pdparams", _pdparams, holds_many=True, holds_half=False),
    Target("safetensors", ".safetensors", _safetensors, shows_cover=True, is_for_diffusers=True),
    Target("diffusers-bin", ".bin", _torch_tensors, splits_encoders=True, is_for_diffusers=True),
    Target("webui-pt", ".pt", _webui_pt, prompt="{stem}"),
    Target("webui-png", ".png", _webui_png, most_encoders=1, holds_half=False, shows_cover=True),
    Target("kohya", ".safetensors", _under("emb_params"), prompt="{stem}", shows_cover=True),
    Target("onetrainer", ".safetensors", _under("emp_params"), prompt="{stem}", shows_cover=True),
    Target("invoke", ".safetensors", _under("emb_params"), prompt="<{stem}>", shows_cover=True),
    Target("comfyui", ".safetensors", _under("emb_params"), prompt="embedding:{stem}", shows_cover=True),
)
TARGETS = {target.name: target for target in _ALL}


def of_ending(path: str) -> str | None:
    """The first target whose files end as this one does; None where there is none."""
    name = path.lower()
    return next((target.name for target in _ALL if name.endswith(target.ending)), None)
