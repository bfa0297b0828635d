"""Read the layouts in which training programs store learned vectors in a dictionary of tensors.

    string_to_param {"*": [N, D]}, name, step, sd_checkpoint_name    AUTOMATIC1111, the original code
    clip_l [N, 768], clip_g [N, 1280]                                SDXL: kohya, OneTrainer, this project
    text_encoders_0 [N, 768], text_encoders_1 [N, 1280]              the same under other names
    clip_l {TOKEN: [1, D], …}, clip_g {…}                            the same in this project's .pdparams
    emb_params [N, D]                                                kohya, InvokeAI
    emp_params [N, D]                                                OneTrainer (spelled so)
    TOKEN [1, D], TOKEN_1 [1, D], …                                  this project
    TOKEN [D] or [N, D]                                              diffusers, ppdiffusers
    TOKEN {learned_embeddings [N, D], initializer_strs}, …           Determined

Axes of size 1 before the last one say nothing: [1, N, D] and [N, 1, D] are N vectors.

OneTrainer's `…_out` vectors are added to the output of the text encoder and cannot be used in a prompt. They are left
out, and the metadata names them under "left_out"; a file of nothing else, or of zeros beside them, is refused.

What another program says about the base model is a text for people: it is kept under "learned_on". Only what this
project wrote is kept under "base_model".
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from textual_inversion.formats.budget import Budget
from textual_inversion.formats.errors import NotAnEmbedding, WrongValues, printable, quoted
from textual_inversion.formats.learned_embedding import LearnedEmbedding
from textual_inversion.formats.pickled_arrays import PickledModule, array_of, shape_of

ENCODERS = {"clip_l": "text_encoder", "clip_g": "text_encoder_2"}
MOST_VECTORS = 1024  # a prompt has room for 75
MOST_ENTRIES = 4096
# Other names of the two text encoders, first and second.
_OTHER_NAMES = (
    ("text_encoders_0", "text_encoders_1"),
    ("text_encoder_0", "text_encoder_1"),
    ("text_encoder_1", "text_encoder_2"),
    ("text_encoder", "text_encoder_2"),
    ("text_model", "text_model_2"),
)
_OF_OTHER_MODELS = {"t5", "t5xxl", "t5_xxl", "llama", "qwen"}
_UNNAMED = {"*", ""}
_DETERMINED = "learned_embeddings"  # the entry of each concept; beside it, what it started from
_COUNTED = re.compile(r"(.+)_([1-9][0-9]{0,3})", re.DOTALL)
# Where other programs say what a file was learned on.
_HINTS = (
    "sd_checkpoint_name", "base_model", "base_model_name", "sd_model_name", "ss_sd_model_name", "ss_base_model_version",
    "modelspec.architecture", "sd_checkpoint",
)  # fmt: skip


@dataclass(frozen=True)
class _Reading:
    """One reading of a file.

    Attributes:
        stem: what a concept that the file does not name is called.
        metadata: what the file says about its concepts.
        budget: what the reading may still spend.
    """

    stem: str
    metadata: Mapping[str, str]
    budget: Budget

    def vectors(self, name: Any, value: Any) -> np.ndarray:
        """The vectors under a name as finite float32 [N, D], in a copy of their own, charged to the budget."""
        shape, shown = shape_of(value), quoted(name)
        if shape is None:
            raise NotAnEmbedding(f"holds {_kind(value)} instead of vectors under {shown}")
        matrix = _as_matrix(shape)
        if matrix is None:
            raise WrongValues(f"holds {shown} of shape {list(shape)} instead of [D] or [N, D]")
        if matrix[0] > MOST_VECTORS:
            raise NotAnEmbedding(f"holds {matrix[0]} vectors under {shown}; it looks like a whole table or a model")
        self.budget.spend_name(str(name))
        self.budget.spend_values(4 * matrix[0] * matrix[1])
        array = array_of(value).reshape(matrix)
        if array.dtype != np.float32:
            raise WrongValues(f"holds {shown} as {array.dtype} instead of floating-point numbers")
        if not np.isfinite(array).all():
            raise WrongValues(f"holds NaN or infinite values under {shown}")
        return np.array(array, np.float32, order="C")


def read_layout(content: Any, metadata: Mapping[str, str], stem: str, budget: Budget) -> list[LearnedEmbedding]:
    """The learned embeddings in the content of a file; a concept that the file does not name is called `stem`.

    Args:
        budget: of the reading that gave the content; vectors and their names are charged to it.

    Raises:
        NotAnEmbedding: no known layout.
        WrongValues: not floating point, not finite, or no vectors [D] or [N, D].
        AsksTooMuch: more vectors or names than the budget allows.
    """
    if not isinstance(content, dict) or not content:
        raise NotAnEmbedding(f"holds {_kind(content)} instead of learned vectors by name")
    if len(content) > MOST_ENTRIES:
        raise NotAnEmbedding(f"holds {len(content)} entries; it looks like a whole model")
    reading = _Reading(metadata.get("placeholder_token") or stem, _with_hint(metadata), budget)
    if "string_to_param" in content:
        return _read_string_to_param(content, reading)
    if all(isinstance(value, dict) and _DETERMINED in value for value in content.values()):
        return _read_determined(content, reading)
    content = _with_known_names(content)
    left_out = [name for name in content if isinstance(name, str) and name.endswith("_out") and shape_of(content[name])]
    if not left_out or not {name.removesuffix("_out") for name in left_out} <= {*ENCODERS, "emp_params", "t5"}:
        return _read_named(content, reading)
    content = {name: value for name, value in content.items() if name not in left_out}
    reading = _Reading(reading.stem, {**reading.metadata, "left_out": ", ".join(sorted(left_out))}, budget)
    embeddings = _read_named(content, reading) if content else []
    if not any(np.any(array) for embedding in embeddings for array in embedding.vectors.values()):
        raise NotAnEmbedding(  # OneTrainer writes zeros where there is nothing to read
            "holds only output vectors, which act after the text encoder and cannot be used in a prompt"
        )
    return embeddings


def _read_named(content: dict, reading: _Reading) -> list[LearnedEmbedding]:
    """The learned embeddings of a dictionary whose keys name text encoders, the vectors, or concepts."""
    if set(content) & _OF_OTHER_MODELS:
        raise NotAnEmbedding("was made for a base model with a T5 or language-model encoder, not Stable Diffusion")
    if set(content) & set(ENCODERS):
        return _read_by_encoder(content, reading)
    for name in ("emb_params", "emp_params"):
        if name in content:
            return [_concept(reading.stem, {"text_encoder": reading.vectors(name, content[name])}, reading.metadata)]
    return _read_by_token(content, reading)


def _with_hint(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata in which "base_model" is what this project wrote; what others say is under "learned_on"."""
    if "placeholder_token" in metadata:  # which this project always writes
        return dict(metadata)
    hint = next((metadata[key] for key in _HINTS if metadata.get(key, "").strip()), None)
    kept = {key: value for key, value in metadata.items() if key != "base_model"}
    return kept if hint is None else kept | {"learned_on": printable(hint)}


def _with_known_names(content: dict) -> dict:
    """A dictionary of tensors by text encoder, with the names of `ENCODERS` in place of others."""
    stems = {name.removesuffix("_out") for name in content if isinstance(name, str) and shape_of(content[name])}
    pairs = [pair for pair in _OTHER_NAMES if stems and stems <= set(pair)]
    if not pairs:
        return content
    pair = next((pair for pair in pairs if pair[0] in stems), pairs[0])
    names = dict(zip(pair, ENCODERS, strict=True))
    names |= {f"{other}_out": f"{name}_out" for other, name in names.items()}
    return {names.get(name, name): value for name, value in content.items()}


def _as_matrix(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """(N, D) of vectors in an array of this shape, of which all axes but the last and one other are 1; else None."""
    counts = [size for size in shape[:-1] if size != 1]
    if not shape or 0 in shape or len(counts) > 1:
        return None
    return (counts[0] if counts else 1), shape[-1]


def group_vectors(names: Iterable[str]) -> dict[str, list[str]]:
    """Group names by concept: TOKEN -> [TOKEN, TOKEN_1, TOKEN_2, …], as far as these go without a gap."""
    names = list(dict.fromkeys(names))
    parts = {name: (match[1], int(match[2])) for name in names if (match := _COUNTED.fullmatch(name))}
    counts: dict[str, set[int]] = {name: set() for name in names}
    for base, count in parts.values():
        if base in counts:
            counts[base].add(count)
    # The numbers of a concept's vectors end before the first that is missing.
    ends = {base: next(n for n in range(1, len(found) + 2) if n not in found) for base, found in counts.items()}
    groups: dict[str, dict[int, str]] = {}
    for name in names:
        base, count = parts.get(name, (name, 0))
        if count >= ends.get(base, 0):
            base, count = name, 0
        groups.setdefault(base, {})[count] = name
    return {base: [group[count] for count in sorted(group)] for base, group in groups.items()}


def _read_string_to_param(content: dict, reading: _Reading) -> list[LearnedEmbedding]:
    params = content["string_to_param"]
    params = params.parameters if isinstance(params, PickledModule) else params
    if not isinstance(params, dict) or not params:
        raise NotAnEmbedding("holds no vectors under string_to_param")
    given_name = content.get("name")
    name = given_name if isinstance(given_name, str) and given_name.strip() else reading.stem
    learned_on = content.get("sd_checkpoint_name") or content.get("sd_checkpoint")  # the second is a hash
    fields = {"learned_on": learned_on, "steps": content.get("step")}
    metadata = {key: printable(value) for key, value in fields.items() if type(value) in (str, int) and value != ""}
    return [
        _concept(name if key in _UNNAMED else key, {"text_encoder": reading.vectors(key, value)}, metadata)
        for key, value in params.items()
    ]


def _read_determined(content: dict, reading: _Reading) -> list[LearnedEmbedding]:
    embeddings = []
    for token, entry in content.items():
        started = {
            key: printable(value)
            for key, value in entry.items()
            if isinstance(key, str) and key.startswith("initializer") and isinstance(value, str)
        }
        vectors = reading.vectors(token, entry[_DETERMINED])
        embeddings.append(_concept(token, {"text_encoder": vectors}, {**reading.metadata, **started}))
    return embeddings


def _read_by_encoder(content: dict, reading: _Reading) -> list[LearnedEmbedding]:
    parts = {name: content[name] for name in ENCODERS if name in content}
    if "clip_l" not in parts:
        raise NotAnEmbedding("holds vectors for clip_g without those for clip_l")
    if not any(isinstance(part, dict) for part in parts.values()):
        vectors = {ENCODERS[name]: reading.vectors(name, part) for name, part in parts.items()}
        return [_concept(reading.stem, vectors, reading.metadata)]
    by_encoder = {
        ENCODERS[name]: {concept.placeholder_token: concept for concept in _read_by_token(part, reading)}
        for name, part in parts.items()
        if isinstance(part, dict) and len(part) <= MOST_ENTRIES
    }
    if len(by_encoder) != len(parts) or len({tuple(concepts) for concepts in by_encoder.values()}) != 1:
        raise NotAnEmbedding("names different concepts for clip_l and for clip_g")
    return [
        _concept(
            token, {name: by_encoder[name][token].vectors["text_encoder"] for name in by_encoder}, reading.metadata
        )
        for token in by_encoder["text_encoder"]
    ]


def _read_by_token(content: dict, reading: _Reading) -> list[LearnedEmbedding]:
    shapes = _shapes_by_name(content)
    tensors = {str(name): reading.vectors(name, content[name]) for name in shapes}
    singles = [name for name, array in tensors.items() if len(array) == 1]
    groups = group_vectors(singles) | {name: [name] for name in tensors if len(tensors[name]) > 1}
    embeddings = []
    for token in [token for token in tensors if token in groups]:
        parts = [tensors.pop(name) for name in groups[token]]  # so that no vector is held twice for long
        vectors = parts[0] if len(parts) == 1 else np.concatenate(parts)
        name = reading.stem if token in _UNNAMED else token
        embeddings.append(_concept(name, {"text_encoder": vectors}, reading.metadata))
    return embeddings


def _shapes_by_name(content: dict) -> dict[Any, tuple[int, ...]]:
    """The shapes of the tensors in a dictionary, by key, before a value is read.

    Raises:
        NotAnEmbedding: they are not those of vectors of one width, or there is something else.
    """
    shapes = {name: shape_of(value) for name, value in content.items()}
    for name, shape in shapes.items():
        if shape is None and not (content[name] is None or isinstance(content[name], (str, int, float))):
            raise NotAnEmbedding(f"holds {_kind(content[name])} under {quoted(name)}; it may be a checkpoint")
        if shape is not None and _as_matrix(shape) is None and len(shapes) > 1:
            raise NotAnEmbedding(f"holds {quoted(name)} of shape {list(shape)}; it looks like a model or a LoRA")
    found = {name: shape for name, shape in shapes.items() if shape is not None}
    if not found:
        raise NotAnEmbedding("holds no tensor")
    widths = {shape[-1] for shape in found.values() if shape}
    if len(widths) > 1:
        names = ", ".join(map(quoted, list(found)[:2]))
        raise NotAnEmbedding(
            f"holds {len(found)} tensors such as {names} of {len(widths)} widths; it looks like a model or a LoRA"
        )
    return found


def _concept(token: Any, vectors: dict[str, np.ndarray], metadata: Mapping[str, str]) -> LearnedEmbedding:
    counts = sorted({len(array) for array in vectors.values()})
    if len(counts) > 1:
        raise WrongValues(f"holds {counts[0]} vectors for one text encoder and {counts[1]} for the other")
    return LearnedEmbedding(str(token), vectors, dict(metadata))


def _kind(value: Any) -> str:
    names = {dict: "a dictionary", list: "a list", tuple: "a tuple", str: "text", type(None): "nothing"}
    return "one tensor without a name" if shape_of(value) is not None else names.get(type(value), "something")
