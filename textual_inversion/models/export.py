"""Save a base model with learned embeddings as a folder that ppdiffusers' pipelines load.

Only text encoders and tokenizers change, so only they are written. All other weights are hard links to the base model's
files wherever ppdiffusers can load these, so that a concept of 4 kB does not cost a copy of 4 GB. Every file gets its
name by renaming; none is opened for writing under its final name, which could be a hard link to a base model's file.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from paddle import nn

from textual_inversion.formats.learned_embedding import LearnedEmbedding, check_width, token_names
from textual_inversion.models import safety_checker
from textual_inversion.models.base_model import BaseModel
from textual_inversion.models.concept_embedding import table_of
from textual_inversion.models.placeholder_words import check_placeholder
from textual_inversion.models.schedulers import saved_scheduler
from textual_inversion.models.text_encoders import TextEncoder, encoder_config
from textual_inversion.models.tokenizers import tokenizer_files
from textual_inversion.models.weight_files import (
    DIFFUSION_FILES,
    ENCODER_FILES,
    StoredState,
    candidates,
    read_json,
    read_state,
    write_weights,
)
from textual_inversion.models.weights import is_as_ppdiffusers_loads_it, load_weights
from textual_inversion.system import atomic
from textual_inversion.system.errors import ConceptError, OutputError
from textual_inversion.system.written_files import is_own

_DIFFUSION_FILE, _ENCODER_FILE, _PICKLE = (
    "diffusion_paddle_model.safetensors",
    "model.safetensors",
    "model_state.pdparams",
)
_VERSION = "_ppdiffusers_version"


def save_pipeline(model: BaseModel, embeddings: Sequence[LearnedEmbedding], output_dir: str | Path) -> None:
    """Write a pipeline folder, which the base model's own pipeline class loads with the placeholder tokens.

    The tokenizers hold `<word>`, `<word>_1`, … for the vectors of a concept. ppdiffusers expands `<word>` to all of
    them, except in latent diffusion, whose pipeline expands nothing.

    Args:
        model: the base model, with or without vectors attached; it and its files stay as they are.
        embeddings: the concepts, each with float32 [N, D] for every text encoder.

    Raises:
        OutputError: the folder is the base model's own, or cannot be written.
        ConceptError, EmbeddingFileError: a placeholder token is taken, or its vectors do not fit the base model.
    """
    output = Path(output_dir)
    tokens = _new_tokens(model, embeddings)
    _make_folder(output, model)
    for encoder in model.text_encoders:
        _save_text_encoder(model, model.exact_text_encoder(encoder), tokens, embeddings, output)
    _save_diffusion_part(model, "unet", model.unet, output)
    _save_diffusion_part(model, model.family.vae, model.vae, output)
    _make_folder(output / "scheduler", model)
    scheduler = _without_origin(saved_scheduler(model.scheduler_config))
    _write_json(output / "scheduler" / "scheduler_config.json", scheduler)
    has_checker = _save_safety_checker(model, output)
    _write_json(output / "model_index.json", _index(model, scheduler["_class_name"], has_checker))


def written_bytes(model: BaseModel) -> int:
    """About how many bytes `save_pipeline` writes: text encoders, and the parts that cannot be links."""
    layers = [encoder.layer for encoder in model.text_encoders]
    for part, layer in (("unet", model.unet), (model.family.vae, model.vae)):
        source = model.vae_folder if part == model.family.vae else model.folder / part
        if not _is_linkable(layer, read_state(source, DIFFUSION_FILES, variant=model.variant), {"F32", "F16"}):
            layers.append(layer)
    tables = [table_of(encoder.layer) for encoder in model.text_encoders]
    tensors = [tensor for layer in layers for tensor in layer.state_dict().values()] + tables
    tokenizers = sum(40 * len(encoder.tokenizer) for encoder in model.text_encoders)  # a word, its merge, an id
    return tokenizers + sum(4 * int(np.prod(tensor.shape)) for tensor in tensors)  # saved in full precision


def _new_tokens(model: BaseModel, embeddings: Sequence[LearnedEmbedding]) -> list[str]:
    """The tokens of all vectors, in order."""
    tokens = [name for one in embeddings for name in token_names(one.placeholder_token, one.num_vectors)]
    twice = {token for token in tokens if tokens.count(token) > 1}
    if twice:
        raise ConceptError(f"two concepts have the token {min(twice)}; rename one of them")
    for one in embeddings:
        check_width(one, {encoder.name: encoder.embedding_width for encoder in model.text_encoders}, model.name)
    for encoder in model.text_encoders:
        for token in tokens:
            check_placeholder(token, encoder.tokenizer)
    return tokens


# --------------------------------------------------------------------------------------------------- text encoders


def _save_text_encoder(
    model: BaseModel, encoder: TextEncoder, tokens: list[str], embeddings: Sequence[LearnedEmbedding], output: Path
) -> None:
    folder = output / encoder.location.folder
    _make_folder(folder, model)
    _save_tokenizer(encoder, tokens, output / encoder.location.tokenizer, model)
    vectors = [np.asarray(one.vectors[encoder.name], np.float32) for one in embeddings]
    table = _merged_table(encoder, vectors)
    config = encoder.saved_config(encoder_config(model.folder / encoder.location.folder, encoder.kind), len(table))
    _write_json(folder / "config.json", config)
    _write_weights(folder / _ENCODER_FILE, encoder.weights_with(table), "np")
    _remove_others(folder, ENCODER_FILES, {_ENCODER_FILE})


def _merged_table(encoder: TextEncoder, vectors: list[np.ndarray]) -> np.ndarray:
    """The embedding table, float32, with the new vectors at the ids that the tokenizer will give their tokens."""
    table = table_of(encoder.layer).numpy().astype(np.float32)  # (V, D)
    first = len(encoder.tokenizer)  # some tables have spare rows beyond the tokenizer's last token
    new = np.concatenate([np.empty((0, table.shape[1]), np.float32), *vectors])  # (N, D)
    merged = np.concatenate([table, np.zeros((max(0, first + len(new) - len(table)), table.shape[1]), np.float32)])
    merged[first : first + len(new)] = new
    return merged


def _save_tokenizer(encoder: TextEncoder, tokens: list[str], folder: Path, model: BaseModel) -> None:
    _make_folder(folder, model)
    for name, content in tokenizer_files(encoder.tokenizer, tokens).items():
        if isinstance(content, dict):
            _write_json(folder / name, content)
        else:
            atomic.write_bytes(folder / name, content if isinstance(content, bytes) else content.encode("utf-8"))


# ------------------------------------------------------------------------------------------------------- other parts


def _save_diffusion_part(model: BaseModel, part: str, layer: nn.Layer, output: Path) -> None:
    folder = output / part
    source = model.vae_folder if part == model.family.vae else model.folder / part
    _make_folder(folder, model)
    config = {key: layer.config[key] for key in read_json(source / "config.json") if key in layer.config}
    _write_json(folder / "config.json", _without_origin(config) | _class_entry(layer))
    state = read_state(source, DIFFUSION_FILES, variant=model.variant)
    if _is_linkable(layer, state, {"F32", "F16"}):
        written = _link_weights(state, folder, _DIFFUSION_FILE)
    else:
        exact = model.exact_unet() if part == "unet" else layer
        _write_weights(folder / _DIFFUSION_FILE, exact.state_dict(), "pd")
        written = {_DIFFUSION_FILE}
    _remove_others(folder, DIFFUSION_FILES, written)


def _is_linkable(layer: nn.Layer, state: StoredState, data_types: set[str]) -> bool:
    if state.is_pickle and (len(state.files) > 1 or state.files[0].suffix != ".pdparams"):
        return False
    declared = state.declared_layout is not None and state.data_types <= data_types
    return declared and is_as_ppdiffusers_loads_it(layer, state, renames_attention=True)


def _link_weights(state: StoredState, folder: Path, name: str) -> set[str]:
    """Link a part's files under names that ppdiffusers looks for; returns the names."""
    if state.is_pickle:
        name = _PICKLE
    if len(state.files) == 1:
        atomic.put_link(state.files[0], folder / name)
        return {name}
    for file in state.files:
        atomic.put_link(file, folder / file.name)
    index = read_json(state.source)
    _write_json(folder / f"{name}.index.json", {"metadata": {}, **index})
    return {f"{name}.index.json", *(file.name for file in state.files)}


def _save_safety_checker(model: BaseModel, output: Path) -> bool:
    """Save the safety checker with its feature extractor; False where the base model has none."""
    checker = safety_checker.unset(model.folder, model.variant) if "safety_checker" in model.family.optional else None
    if checker is None:
        return False
    source, folder = model.folder / "safety_checker", output / "safety_checker"
    _make_folder(folder, model)
    config = read_json(source / "config.json")
    dropped = ("torch_dtype", "transformers_version", "_name_or_path")
    config = {key: value for key, value in config.items() if key not in dropped}
    _write_json(folder / "config.json", config | {"dtype": "float32", "architectures": [type(checker).__name__]})
    state = read_state(source, ENCODER_FILES, variant=model.variant)
    if _is_checker_linkable(checker, state):
        written = _link_weights(state, folder, _ENCODER_FILE)
    else:
        load_weights(checker, state)
        _write_weights(folder / _ENCODER_FILE, checker.state_dict(), "np")
        written = {_ENCODER_FILE}
    _remove_others(folder, ENCODER_FILES, written)
    _make_folder(output / "feature_extractor", model)
    settings = safety_checker.sizes_written_out(
        read_json(model.folder / "feature_extractor" / "preprocessor_config.json")
    )
    settings["image_processor_type"] = "CLIPImageProcessor"
    _write_json(output / "feature_extractor" / "preprocessor_config.json", settings)
    return True


def _is_checker_linkable(checker: nn.Layer, state: StoredState) -> bool:
    """Whether paddlenlp, which loads the checker, reads these files as they are.

    It does not transpose PyTorch's layout, and it refuses files whose metadata has the format "pd".
    """
    if not state.is_pickle and state.metadata.get("format") != "np":
        return False
    return len(state.files) == 1 and _is_linkable(checker, state, {"F32"})


def _class_entry(layer: nn.Layer) -> dict[str, str]:
    import ppdiffusers

    return {"_class_name": type(layer).__name__, _VERSION: ppdiffusers.__version__}


def _without_origin(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without the entries that record where and with which version it was made."""
    return {key: value for key, value in config.items() if key == "_class_name" or not key.startswith("_")}


def _index(model: BaseModel, scheduler_class: str, has_checker: bool) -> dict[str, Any]:
    import ppdiffusers

    family, encoders = model.family, "ppdiffusers.transformers"
    index: dict[str, Any] = {"_class_name": model.index["_class_name"], _VERSION: ppdiffusers.__version__}
    index["scheduler"] = ["ppdiffusers", scheduler_class]
    index["unet"], index[family.vae] = ["ppdiffusers", "UNet2DConditionModel"], ["ppdiffusers", "AutoencoderKL"]
    for encoder in model.text_encoders:
        index[encoder.location.folder] = [encoder.kind.library, encoder.kind.class_name]
        index[encoder.location.tokenizer] = [encoders, encoder.kind.tokenizer]
    index |= {name: [None, None] for name in family.optional}
    if has_checker:
        index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
        index["feature_extractor"] = [encoders, "CLIPImageProcessor"]
    index |= {name: model.index.get(name, default) for name, default in family.settings.items()}
    if "requires_safety_checker" in index:
        index["requires_safety_checker"] = has_checker and bool(index["requires_safety_checker"])
    return index


# ------------------------------------------------------------------------------------------------- writing of files


def _make_folder(folder: Path, model: BaseModel) -> None:
    """Create an output folder; refuse the base model's own folder, and any inside it."""
    base, target = model.folder.resolve(), folder.resolve()
    if target == base or base in target.parents:
        raise OutputError(
            f"{folder} is inside the base model {model.folder}, which is never changed; choose another folder"
        )
    atomic.make_folder(folder)


def _write_json(path: Path, value: Any) -> None:
    atomic.write_json(path, value)


def _write_weights(path: Path, tensors: Mapping[str, Any], form: str) -> None:
    with atomic.replacing(path) as temporary:
        write_weights(temporary, tensors, {"format": form})


def _remove_others(folder: Path, names: tuple[str, ...], written: set[str]) -> None:
    """Remove weights that ppdiffusers would find before, or beside, those just written.

    Raises:
        OutputError: they are not of this run, so they stay.
    """
    for path in (folder / name for name, _ in candidates(names) if name not in written):
        if not is_own(path):
            raise OutputError(
                f"{path} is not of this run, and would be loaded with its pipeline; move it, or choose another "
                "--output_dir"
            )
        atomic.remove_file(path)
