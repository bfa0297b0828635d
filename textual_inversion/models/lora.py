"""Add LoRA files to the weights of a base model in memory: W + scale · alpha / rank · up · down, for each layer.

Adding them once costs nothing while images are made, and any number of files can be added. ppdiffusers 0.29 adds the
same matrices to a U-Net; it cannot load those of a text encoder (its own deprecation check stops it), nor two files at
once. So the sum is computed here for all parts alike.

A file that does not fit is refused before any weight is changed.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import paddle
from paddle import nn

from textual_inversion.formats.errors import file_name, quoted
from textual_inversion.formats.lora_file import KOHYA, LoraFile, LowRank
from textual_inversion.models.base_model import BaseModel
from textual_inversion.system.device import to_device
from textual_inversion.system.errors import EmbeddingFileError

# What original Stable Diffusion files call the layers of a residual block, and their names here; in kohya's spelling.
_BLOCK_LAYERS = (
    ("in_layers_2", "conv1"),
    ("out_layers_3", "conv2"),
    ("emb_layers_1", "time_emb_proj"),
    ("skip_connection", "conv_shortcut"),
)
_ORIGINAL_BLOCKS = ("input_blocks", "middle_block", "output_blocks")
_Change = tuple[nn.Layer, LowRank, bool]  # a layer, its change, and whether that is laid out as Paddle's


def merge_loras(model: BaseModel, loras: Sequence[LoraFile]) -> None:
    """Add LoRA files to a model's weights, for as long as the model is in memory.

    Raises:
        EmbeddingFileError: a file names layers that the model does not have, or has matrices of other shapes.
    """
    for layer, change, is_paddle, scale in _fitted(model, loras):
        _add(layer.weight, _product(layer, change, is_paddle), scale)


@contextlib.contextmanager
def merged_loras(model: BaseModel, loras: Sequence[LoraFile]) -> Iterator[None]:
    """Add LoRA files to a model's weights within a block; after it, every weight has its former bits.

    The former weights are kept in the memory of the host. Raises as `merge_loras`.
    """
    fitted = _fitted(model, loras)
    former = {id(layer): (layer.weight, layer.weight.numpy().copy()) for layer, *_ in fitted}
    try:
        for layer, change, is_paddle, scale in fitted:
            _add(layer.weight, _product(layer, change, is_paddle), scale)
        yield
    finally:
        for weight, values in former.values():
            weight.set_value(values)


def _fitted(model: BaseModel, loras: Sequence[LoraFile]) -> list[tuple[nn.Layer, LowRank, bool, float]]:
    """All changes of all files with their layers and the file's scale."""
    layers = _layers(model)
    return [(*change, lora.scale) for lora in loras for change in _changes(model, layers, lora)]


def _layers(model: BaseModel) -> dict[str, nn.Layer]:
    """The layers that a LoRA may change, by each name that a file may give them."""
    parts = {"unet": model.unet} | {encoder.name: encoder.layer for encoder in model.text_encoders}
    prefixes = {"unet": KOHYA[0], "text_encoder": KOHYA[1] if len(parts) == 2 else KOHYA[2], "text_encoder_2": KOHYA[3]}
    found = {}
    for part, whole in parts.items():
        for path, layer in whole.named_sublayers():
            if isinstance(layer, nn.Linear | nn.Conv2D):
                found[f"{part}.{path}"] = layer
                if part in prefixes:
                    found[prefixes[part] + path.replace(".", "_")] = layer
    return found


def _changes(model: BaseModel, layers: Mapping[str, nn.Layer], lora: LoraFile) -> list[_Change]:
    names = _names_here(model, list(lora.changes))
    unknown = [name for name in lora.changes if names[name] not in layers]
    if unknown:
        more = f" and {len(unknown) - 1} other layers" if len(unknown) > 1 else ""
        raise EmbeddingFileError(
            f"{file_name(lora.path)}: changes {quoted(unknown[0], 120)}{more}, which {model.name} does not have; "
            "take a LoRA that was made for this kind of base model"
        )
    pairs = [(layers[names[name]], change) for name, change in lora.changes.items()]
    fits = {is_paddle: [_fits(layer, change, is_paddle) for layer, change in pairs] for is_paddle in (False, True)}
    best = lora.is_paddle if all(fits[lora.is_paddle]) else not lora.is_paddle
    if not all(fits[best]):
        # The layout that fits more layers is the file's; the first that does not fit it is named.
        best = max(fits, key=lambda is_paddle: sum(fits[is_paddle]))
        name, (layer, change) = list(zip(lora.changes, pairs, strict=True))[fits[best].index(False)]
        shapes = " and ".join(str(list(one.shape)) for one in (change.down, change.up))
        raise EmbeddingFileError(
            f"{file_name(lora.path)}: changes {quoted(name, 120)} with matrices {shapes}, and the weights of "
            f"{model.name} are {_described(layer)} there; take a LoRA that was made for this kind of base model"
        )
    return [(layer, change, best) for layer, change in pairs]


def _names_here(model: BaseModel, names: list[str]) -> dict[str, str]:
    """Name in a file -> name among `_layers`."""
    found = {name: name for name in names}
    if any(name.startswith(KOHYA) for name in names):
        return found | _from_original_blocks(model, [name for name in names if name.startswith(KOHYA[0])])
    parts = ("unet.", *(f"{encoder.name}." for encoder in model.text_encoders), "text_encoder.", "text_encoder_2.")
    return {name: name if name.startswith(parts) else f"unet.{name}" for name in names}


def _from_original_blocks(model: BaseModel, names: list[str]) -> dict[str, str]:
    """kohya's names with the block numbers of original Stable Diffusion files -> those with the numbers used here."""
    from ppdiffusers.loaders.lora_conversion_utils import _maybe_map_sgm_blocks_to_diffusers

    original = {name: name for name in names if any(block in name for block in _ORIGINAL_BLOCKS)}
    if not original:
        return {}
    try:
        mapped = _maybe_map_sgm_blocks_to_diffusers(dict(original), model.unet.config)
    except (ValueError, IndexError, KeyError):  # names of no such block; they are told as unknown
        return {}
    return {old: _layer_of_block(new) for new, old in mapped.items()}


def _layer_of_block(name: str) -> str:
    for block, here in (("input_blocks", "down_blocks"), ("middle_block", "mid_block"), ("output_blocks", "up_blocks")):
        name = name.replace(block, here)
    for original, here in _BLOCK_LAYERS:
        name = name.replace(original, here)
    return re.sub(r"(down|up)samplers_0_(op|conv)$", r"\1samplers_0_conv", name)


def _fits(layer: nn.Layer, change: LowRank, is_paddle: bool) -> bool:
    """Whether a change has the shape of a layer's weights."""
    down, up, weight = change.down.shape, change.up.shape, tuple(layer.weight.shape)
    if isinstance(layer, nn.Conv2D):  # [out, in, h, w] in both layouts
        return len(down) == 4 and layer._groups == 1 and up == (weight[0], down[0], 1, 1) and down[1:] == weight[1:]
    if len(down) != 2:
        return False
    if is_paddle:
        return down[0] == weight[0] and up == (down[1], weight[1])
    return down[1] == weight[0] and up == (weight[1], down[0])


def _described(layer: nn.Layer) -> str:
    """A layer's shape as a LoRA's author knows it: [out, in], or [out, in, h, w]."""
    shape = list(layer.weight.shape)
    return str(shape if isinstance(layer, nn.Conv2D) else shape[::-1])


def _product(layer: nn.Layer, change: LowRank, is_paddle: bool) -> paddle.Tensor:
    """alpha / rank · up · down, float32, laid out as the layer's weights: [in, out], or [out, in, h, w]."""
    down, up = (to_device(np.array(matrix, np.float32)) for matrix in (change.down, change.up))  # a copy: it is a view
    rank = down.shape[1] if is_paddle and down.ndim == 2 else down.shape[0]
    factor = 1.0 if change.alpha is None else change.alpha / rank
    if isinstance(layer, nn.Conv2D):
        product = paddle.matmul(up.flatten(1) * factor, down.flatten(1))
        return product.reshape(layer.weight.shape)
    if not is_paddle:
        down, up = down.T, up.T
    return paddle.matmul(down, up * factor)


def _add(weight: Any, product: paddle.Tensor, scale: float) -> None:
    with paddle.no_grad():
        weight.set_value((weight.astype("float32") + scale * product).astype(weight.dtype))
