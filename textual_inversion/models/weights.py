"""Set the weights of a model's part, and check that every one of them was set.

The usual loaders leave a weight random when its name does not match, write converted copies into the user's folder, and
unpickle. Here one tensor after another is read, transposed if need be, checked, set and dropped, so that memory holds
the model and one tensor.

There are two layouts: "ppdiffusers" stores the weight of a linear layer as [in, out], "diffusers" (PyTorch) as
[out, in]. The contents of a file decide which one it has (`file_layout`), never its folder.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import paddle
from paddle import nn

from textual_inversion.formats.reader import release_pages
from textual_inversion.models.weight_files import DIFFUSERS, PPDIFFUSERS, StoredState
from textual_inversion.system.errors import BaseModelError

# Surplus tensors that the model does not need: a range 0, 1, 2, … that it computes itself, and the averaged second copy
# of the weights in some files of training programs.
_HARMLESS_ENDINGS = ("position_ids", "num_batches_tracked")
_HARMLESS_BEGINNINGS = ("model_ema.", "ema.")

# Names in older files, and the model's own names for the same parts.
_ATTENTION_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD_CLIP_NAMES = (
    (".transformer.", ".encoder."),
    (".positional_embedding.", ".embeddings.position_embedding."),
    ("text_model.token_embedding.", "text_model.embeddings.token_embedding."),
    (".ln_final.", ".final_layer_norm."),
    (".linear1.", ".mlp.fc1."),
    (".linear2.", ".mlp.fc2."),
    (".norm1.", ".layer_norm1."),
    (".norm2.", ".layer_norm2."),
    (".conv1.weight", ".embeddings.patch_embedding.weight"),
    (".class_embedding", ".embeddings.class_embedding"),
    (".ln_pre.", ".pre_layrnorm."),
    (".ln_post.", ".post_layernorm."),
)
# Names of BERT's parts in paddlenlp and in older TensorFlow programs.
_OLD_BERT_NAMES = (
    ("encoder.layers.", "encoder.layer."),
    ("embeddings.layer_norm.", "embeddings.LayerNorm."),
    (".self_attn.q_proj.", ".attention.self.query."),
    (".self_attn.k_proj.", ".attention.self.key."),
    (".self_attn.v_proj.", ".attention.self.value."),
    (".self_attn.out_proj.", ".attention.output.dense."),
    (".norm1.", ".attention.output.LayerNorm."),
    (".norm2.", ".output.LayerNorm."),
    (".linear1.", ".intermediate.dense."),
    (".linear2.", ".output.dense."),
    ("LayerNorm.gamma", "LayerNorm.weight"),
    ("LayerNorm.beta", "LayerNorm.bias"),
)
_OLD_LDMBERT_NAMES = (
    ("embeddings.word_embeddings.", "model.embed_tokens."),
    ("embeddings.position_embeddings.", "model.embed_positions."),
    ("final_layer_norm.", "model.layer_norm."),
    ("encoder.layers.", "model.layers."),
    (".norm1.", ".self_attn_layer_norm."),
    (".norm2.", ".final_layer_norm."),
    (".linear1.", ".fc1."),
    (".linear2.", ".fc2."),
)


def build_unset(build: Callable[[], nn.Layer]) -> nn.Layer:
    """The layer that `build()` makes, its weights not initialized: `load_weights` sets them all afterwards.

    For a Stable Diffusion U-Net this saves 20 seconds and the memory of a second copy.
    """
    from paddlenlp.transformers.model_utils import no_init_weights

    with no_init_weights(_enable=True), paddle.LazyGuard():
        return build()


def load_weights(
    module: nn.Layer,
    state: Mapping[str, np.ndarray],
    *,
    layout: str | None = None,
    source: str | Path | None = None,
    idle: tuple[str, ...] = (),
) -> str:
    """Set every parameter and saved buffer of `module` from `state`, and nothing else.

    Args:
        state: tensor name -> array, in one of the two layouts; a `StoredState` is read tensor by tensor.
        layout: "ppdiffusers" or "diffusers"; None: `file_layout` decides.
        source: the file or folder of the tensors, for messages.
        idle: prefixes of the names of tensors that no needed output of the module depends on; where they are not
            stored, they become zeros.

    Returns:
        The layout.

    Raises:
        BaseModelError: a tensor is missing, has another shape or values that are not finite, or is unknown to the
            model.
    """
    source = source or getattr(state, "source", "the model")
    layout = layout or file_layout(module, state)
    targets = module.state_dict()
    stored_as = _stored_names(targets, state, source, idle)
    missing = [name for name in targets if name not in stored_as and not name.startswith(idle)]
    if missing:
        raise BaseModelError(
            f"{source} lacks the tensor {missing[0]}{_and_more(missing)}; the file is incomplete or of another model"
        )
    _set_all(targets, state, stored_as, _linear_weights(module), layout, source)
    return layout


def _set_all(
    targets: Mapping[str, paddle.Tensor],
    state: Mapping[str, np.ndarray],
    stored_as: Mapping[str, str],
    linear: set[str],
    layout: str,
    source: str | Path,
) -> None:
    """Set every target to its stored tensor; those without one become zeros."""
    for name, target in targets.items():
        if name not in stored_as:
            target.set_value(np.zeros(target.shape, _numpy_type(target)))
            continue
        stored = state[stored_as[name]]
        array = _oriented(stored, target.shape, name in linear, layout)
        if tuple(array.shape) != tuple(target.shape):
            raise BaseModelError(
                f"{source} holds {stored_as[name]} with shape {list(stored.shape)}, and the model's "
                f"configuration asks for {list(target.shape)}; file and config.json are of different models"
            )
        # Not ascontiguousarray, which would give a scalar a dimension.
        values = np.asarray(array, dtype=_numpy_type(target), order="C")
        if not _is_finite(values):
            raise BaseModelError(
                f"{source} holds NaN or infinite values in {stored_as[name]}, from which nothing can be drawn or "
                "learned; download the model again, or take another copy of it"
            )
        target.set_value(values)
        release_pages(stored)


def _is_finite(values: np.ndarray) -> bool:
    """Whether all values are finite. Their sum shows it at once, unless it is too large for the type."""
    with np.errstate(all="ignore"):
        return bool(np.isfinite(values.sum())) or bool(np.isfinite(values).all())


def is_as_ppdiffusers_loads_it(module: nn.Layer, state: StoredState, *, renames_attention: bool) -> bool:
    """Whether ppdiffusers' own loaders would set all of `module` from these files, without surplus or renamed tensors.

    Args:
        renames_attention: the module's loader knows the older names of attention weights.
    """
    targets, linear = module.state_dict(), _linear_weights(module)
    own_names = {name: _own_name(name, targets) for name in state}
    known = all(
        own == name or (renames_attention and not _ATTENTION_NAMES.keys().isdisjoint(name.split(".")[-2:-1]))
        for name, own in own_names.items()
        if own is not None
    )
    flat = all(len(state.shape(name)) == 2 for name, own in own_names.items() if own in linear)
    return known and flat and len(state) == len(targets) and set(own_names.values()) == set(targets)


def _numpy_type(target: paddle.Tensor) -> str:
    return str(target.dtype).rpartition(".")[2]


def _and_more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def _stored_names(
    targets: Mapping[str, object], state: Mapping[str, np.ndarray], source: str | Path, idle: tuple[str, ...]
) -> dict[str, str]:
    """The model's tensor names -> the names under which `state` holds them."""
    stored_as: dict[str, str] = {}
    surplus = []
    for name in state:
        own = _own_name(name, targets)
        if own is None:
            surplus.append(name)
        elif own in stored_as:
            raise BaseModelError(
                f"{source} holds {own} twice, as {stored_as[own]} and {name}; download the model again"
            )
        else:
            stored_as[own] = name
    harmless = _HARMLESS_BEGINNINGS + idle
    surplus = [name for name in surplus if not name.endswith(_HARMLESS_ENDINGS) and not name.startswith(harmless)]
    # A file of another model also lacks tensors; the caller has a better message for that.
    if surplus and all(name in stored_as or name.startswith(idle) for name in targets):
        raise BaseModelError(
            f"{source} holds the tensor {surplus[0]}{_and_more(surplus)}, which its config.json does not provide for; "
            "file and config.json are of different models"
        )
    return stored_as


def _own_name(name: str, targets: Mapping[str, object]) -> str | None:
    """The model's name for a stored tensor, from the same or a known older or newer name; None where there is none."""
    if name in targets:
        return name
    candidates = [f"text_model.{name}", f"vision_model.{name}"]  # transformers 5 omits the outer name
    path, _, ending = name.rpartition(".")
    parent, _, layer = path.rpartition(".")
    if layer in _ATTENTION_NAMES:
        candidates.append(f"{parent}.{_ATTENTION_NAMES[layer]}.{ending}")
    candidates.append(name.removeprefix("bert."))  # BERT with a head that was cut off
    for spelling in (_OLD_CLIP_NAMES, _OLD_BERT_NAMES, _OLD_LDMBERT_NAMES):
        newer = name
        for old, new in spelling:
            newer = newer.replace(old, new)
        candidates += [newer, newer.removeprefix("bert.")]
    candidates.append(f"{name}.weight")
    return next((candidate for candidate in candidates if candidate in targets), None)


def _linear_weights(module: nn.Layer) -> set[str]:
    """Names of the weights that are transposed between the two layouts."""
    return {
        f"{name}.weight" if name else "weight"
        for name, layer in module.named_sublayers(include_self=True)
        if isinstance(layer, nn.Linear)
    }


def _oriented(array: np.ndarray, shape: Sequence[int], is_linear_weight: bool, layout: str) -> np.ndarray:
    """A stored tensor in the model's shape, where only the layout differs."""
    if is_linear_weight and array.ndim == 4 and array.shape[2:] == (1, 1):
        return array[:, :, 0, 0].T  # a 1x1 convolution [out, in, 1, 1], in both layouts, serves as linear layer
    if is_linear_weight and array.ndim == 2 and layout == DIFFUSERS:
        return array.T
    if array.size == 1 and math.prod(shape) == 1:
        return array.reshape(shape)  # a scalar: [] in one layout, [1] in the other
    return array


def file_layout(module: nn.Layer, state: Mapping[str, np.ndarray]) -> str:
    """The layout of stored tensors: declared in their file, else shown by linear layers that are not square.

    Raises:
        BaseModelError: the file does not declare a layout, and every linear layer is square.
    """
    declared = getattr(state, "declared_layout", None)
    if declared:
        return declared
    targets = module.state_dict()
    linear = _linear_weights(module)
    for name in state:
        own = _own_name(name, targets)
        if own not in linear or targets[own].shape[0] == targets[own].shape[1]:
            continue
        shape = state.shape(name) if isinstance(state, StoredState) else state[name].shape
        return PPDIFFUSERS if tuple(shape) == tuple(targets[own].shape) else DIFFUSERS
    raise BaseModelError(
        f"{getattr(state, 'source', 'the model')} does not say which layout it has; its safetensors metadata should "
        'hold {"format": "pt"} or {"format": "pd"}'
    )
