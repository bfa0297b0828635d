"""Read the layouts in which training programs store learned vectors in a dictionary of tensors.

    string_to_param {"*": [N, D]}, name, step, sd_checkpoint_name    AUTOMATIC1111, the original code
    clip_l [N, 768], clip_g [N, 1280]                                SDXL: kohya, OneTrainer, this project
    clip_l {TOKEN: [1, D], …}, clip_g {…}                            the same in this project's .pdparams
    emb_params [N, D]                                                kohya, InvokeAI
    emp_params [N, D]                                                OneTrainer (spelled so)
    TOKEN [1, D], TOKEN_1 [1, D], …                                  this project
    TOKEN [D] or [N, D]                                              diffusers, ppdiffusers

OneTrainer's `…_out` vectors are added to the output of the text encoder and cannot be used in a prompt. They are left
out, and the metadata names them under "left_out"; a file of nothing else, or of zeros beside them, is refused.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from textual_inversion.formats.errors import NotAnEmbedding, WrongValues, printable
from textual_inversion.formats.learned_embedding import LearnedEmbedding
from textual_inversion.formats.pickled_arrays import PickledModule, array_of

ENCODERS = {"clip_l": "text_encoder", "clip_g": "text_encoder_2"}
MOST_VECTORS = 1024  # a prompt has room for 75
MOST_ENTRIES = 4096
_OF_OTHER_MODELS = {"t5", "t5xxl", "t5_xxl", "llama", "qwen"}
_UNNAMED = {"*", ""}
_COUNTED = re.compile(r"(.+)_([1-9]\d{0,3})", re.DOTALL)


def read_layout(content: Any, metadata: Mapping[str, str], stem: str) -> list[LearnedEmbedding]:
    """The learned embeddings in the content of a file; a concept that the file does not name is called `stem`.

    Raises:
        NotAnEmbedding: no known layout.
        WrongValues: not floating point, not finite, or no vectors [D] or [N, D].
    """
    if not isinstance(content, dict) or not content:
        raise NotAnEmbedding(f"holds {_kind(content)} instead of learned vectors by name")
    if len(content) > MOST_ENTRIES:
        raise NotAnEmbedding(f"holds {len(content)} entries; it looks like a whole model")
    stem = metadata.get("placeholder_token") or stem
    if "string_to_param" in content:
        return _read_string_to_param(content, stem)
    left_out = [
        name for name in content if isinstance(name, str) and name.endswith("_out") and _is_tensor(content, name)
    ]
    if left_out and {name.removesuffix("_out") for name in left_out} <= {*ENCODERS, "emp_params", "t5"}:
        content = {name: value for name, value in content.items() if name not in left_out}
        metadata = {**metadata, "left_out": ", ".join(sorted(left_out))}
        if not any(np.any(array) for array in map(array_of, content.values()) if array is not None):
            raise NotAnEmbedding(  # OneTrainer writes zeros where there is nothing to read
                "holds only output vectors, which act after the text encoder and cannot be used in a prompt"
            )
    if set(content) & _OF_OTHER_MODELS:
        raise NotAnEmbedding("was made for a base model with a T5 or language-model encoder, not Stable Diffusion")
    if set(content) & set(ENCODERS):
        return _read_by_encoder(content, metadata, stem)
    for name in ("emb_params", "emp_params"):
        if name in content:
            return [_concept(stem, {"text_encoder": _vectors(name, content[name])}, metadata)]
    return _read_by_token(content, metadata, stem)


def group_vectors(names: Iterable[str]) -> dict[str, list[str]]:
    """Group names by concept: TOKEN -> [TOKEN, TOKEN_1, TOKEN_2, …], as far as these go without a gap."""
    names = list(dict.fromkeys(names))
    known, groups = set(names), {}
    for name in names:
        match = _COUNTED.fullmatch(name)
        base, count = (match[1], int(match[2])) if match else (name, 0)
        if not match or base not in known or any(f"{base}_{number}" not in known for number in range(1, count)):
            base, count = name, 0
        groups.setdefault(base, {})[count] = name
    return {base: [group[count] for count in sorted(group)] for base, group in groups.items()}


def _read_string_to_param(content: dict, stem: str) -> list[LearnedEmbedding]:
    params = content["string_to_param"]
    params = params.parameters if isinstance(params, PickledModule) else params
    if not isinstance(params, dict) or not params:
        raise NotAnEmbedding("holds no vectors under string_to_param")
    given_name = content.get("name")
    name = given_name if isinstance(given_name, str) and given_name.strip() else stem
    fields = {"base_model": content.get("sd_checkpoint_name"), "steps": content.get("step")}
    metadata = {key: printable(value) for key, value in fields.items() if type(value) in (str, int)}
    return [
        _concept(name if key in _UNNAMED else key, {"text_encoder": _vectors(key, value)}, metadata)
        for key, value in params.items()
    ]


def _read_by_encoder(content: dict, metadata: Mapping[str, str], stem: str) -> list[LearnedEmbedding]:
    parts = {name: content[name] for name in ENCODERS if name in content}
    if "clip_l" not in parts:
        raise NotAnEmbedding("holds vectors for clip_g without those for clip_l")
    if not any(isinstance(part, dict) for part in parts.values()):
        return [_concept(stem, {ENCODERS[name]: _vectors(name, part) for name, part in parts.items()}, metadata)]
    by_encoder = {
        ENCODERS[name]: {concept.placeholder_token: concept for concept in read_layout(part, metadata, stem)}
        for name, part in parts.items()
        if isinstance(part, dict) and not set(part) & {*ENCODERS, "string_to_param"}
    }
    if len(by_encoder) != len(parts) or len({tuple(concepts) for concepts in by_encoder.values()}) != 1:
        raise NotAnEmbedding("names different concepts for clip_l and for clip_g")
    return [
        _concept(token, {name: by_encoder[name][token].vectors["text_encoder"] for name in by_encoder}, metadata)
        for token in by_encoder["text_encoder"]
    ]


def _read_by_token(content: dict, metadata: Mapping[str, str], stem: str) -> list[LearnedEmbedding]:
    tensors = {}
    for name, value in content.items():
        if array_of(value) is not None:
            tensors[str(name)] = _vectors(name, value, among=len(content))
        elif not (value is None or isinstance(value, (str, int, float))):
            raise NotAnEmbedding(f"holds {_kind(value)} under {printable(repr(name))}; it may be a checkpoint")
    if not tensors:
        raise NotAnEmbedding("holds no tensor")
    widths = sorted({array.shape[1] for array in tensors.values()})
    if len(widths) > 1:
        names = ", ".join(printable(repr(name), 60) for name in list(tensors)[:2])
        raise NotAnEmbedding(
            f"holds {len(tensors)} tensors such as {names} of {len(widths)} widths; it looks like a model or a LoRA"
        )
    singles = [name for name, array in tensors.items() if len(array) == 1]
    groups = group_vectors(singles) | {name: [name] for name in tensors if len(tensors[name]) > 1}
    return [
        _concept(
            stem if token in _UNNAMED else token,
            {"text_encoder": np.concatenate([tensors[name] for name in groups[token]])},
            metadata,
        )
        for token in tensors
        if token in groups
    ]


def _vectors(name: Any, value: Any, among: int = 1) -> np.ndarray:
    """The vectors as float32 [N, D], in a copy of their own."""
    array = array_of(value)
    shown = printable(repr(name), 60)
    if array is None:
        raise NotAnEmbedding(f"holds {_kind(value)} instead of vectors under {shown}")
    if array.ndim not in (1, 2) or array.size == 0:
        if among > 1:
            raise NotAnEmbedding(f"holds {shown} of shape {list(array.shape)}; it looks like a model or a LoRA")
        raise WrongValues(f"holds {shown} of shape {list(array.shape)} instead of [D] or [N, D]")
    array = array.reshape(-1, array.shape[-1])
    if array.dtype != np.float32:
        raise WrongValues(f"holds {shown} as {array.dtype} instead of floating-point numbers")
    if len(array) > MOST_VECTORS:
        raise NotAnEmbedding(f"holds {len(array)} vectors under {shown}; it looks like a whole table or a model")
    if not np.isfinite(array).all():
        raise WrongValues(f"holds NaN or infinite values under {shown}")
    return np.array(array, np.float32, order="C")


def _concept(token: Any, vectors: dict[str, np.ndarray], metadata: Mapping[str, str]) -> LearnedEmbedding:
    counts = sorted({len(array) for array in vectors.values()})
    if len(counts) > 1:
        raise WrongValues(f"holds {counts[0]} vectors for one text encoder and {counts[1]} for the other")
    return LearnedEmbedding(str(token), vectors, dict(metadata))


def _is_tensor(content: dict, name: str) -> bool:
    return not isinstance(content[name], (dict, str, int, float, type(None)))


def _kind(value: Any) -> str:
    names = {dict: "a dictionary", list: "a list", tuple: "a tuple", str: "text", type(None): "nothing"}
    return "one tensor without a name" if array_of(value) is not None else names.get(type(value), "something")
