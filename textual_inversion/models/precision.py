"""Mixed precision: frozen modules in float16 or bfloat16, everything that is learned or kept in float32.

    float32             embedding vectors, their gradients and moments, the frozen table, latents, noise, loss, the VAE
    --mixed_precision   all layers of U-Net and text encoders

Each lowered module takes float32 and returns float32: its inputs and outputs are cast. So nothing outside has to know,
and loss and regularizers are computed in float32. The VAE stays in float32: Stable Diffusion's VAEs, above all that of
XL, overflow in float16, and each image is encoded only once. The embedding table also stays in float32, so that
training leaves it byte-equal; only the vectors read from it are cast.
"""

from collections.abc import Iterable
from typing import Any

import paddle
from paddle import nn

from textual_inversion.models.concept_embedding import ConceptEmbedding
from textual_inversion.system.errors import SettingsError

_LOW = {"fp16": "float16", "bf16": "bfloat16"}
_SIZES = "time_ids"  # the name under which Stable Diffusion XL gets an image's size in pixels


def plan(mixed_precision: str, parts: Iterable[str]) -> dict[str, str]:
    """The data type that each part of a model computes in.

    Args:
        mixed_precision: one of `choices.PRECISIONS`.
        parts: names of parts: "unet", "vae", "text_encoder", "text_encoder_2".

    Returns:
        Name -> name of a data type.
    """
    low = _LOW.get(mixed_precision, "float32")
    return {part: "float32" if part == "vae" else low for part in parts}


def check_device(mixed_precision: str, device: str) -> None:
    """Refuse a precision that this device does not have.

    Args:
        device: what `environment.select_device` returned.

    Raises:
        SettingsError: the device is a CPU, or a GPU without bfloat16.
    """
    if mixed_precision == "no":
        return
    if not device.startswith("gpu"):
        raise SettingsError(
            f"--mixed_precision {mixed_precision} needs a GPU, and this run is on {device}, which has no "
            "half-precision kernels; leave it out"
        )
    if mixed_precision == "bf16" and not paddle.amp.is_bfloat16_supported():
        raise SettingsError("--mixed_precision bf16: this GPU has no bfloat16 (Ampere and later ones do); take fp16")


def lower(model: Any, mixed_precision: str) -> None:
    """Cast a model's frozen modules. Call it after vectors are attached; a model that was lowered stays as it is.

    Vectors that are attached later are cast as those before (see `concept_embedding.attach`).

    Args:
        model: a `base_model.BaseModel`.
        mixed_precision: one of `choices.PRECISIONS`.
    """
    if mixed_precision == "no" or model.is_lowered:
        return
    layers = {"unet": model.unet} | {encoder.name: encoder.layer for encoder in model.text_encoders}
    types = plan(mixed_precision, layers)
    for name, layer in layers.items():
        cast(layer, types[name])
        cast_inputs(layer, types[name])
        cast_outputs(layer)
    for encoder in model.text_encoders:
        # BERT and XLM-R make their attention mask in float32, whatever the type of their weights.
        for layer in encoder.transformer_layers:
            cast_inputs(layer, types[encoder.name])
    model.is_lowered = True
    model.prepare_vae(cast_latents)


def cast(layer: nn.Layer, dtype: str) -> None:
    """Cast all weights and floating buffers of a layer, except embedding vectors and the table beside them.

    The output of a `ConceptEmbedding` is cast instead. This cast returns the gradient in float32.
    """
    kept = set()
    for part in layer.sublayers(include_self=True):
        if isinstance(part, ConceptEmbedding):
            kept |= {id(one) for one in part.sublayers(include_self=True)}
            part.register_forward_post_hook(lambda _layer, _inputs, output: _as(output, dtype))
    for part in layer.sublayers(include_self=True):
        if id(part) not in kept:
            # Like nn.Layer.float16, which leaves integers as they are, but which does nothing on a CPU.
            part._to_impl(dtype=dtype, floating_only=True, include_sublayers=False)


def cast_inputs(layer: nn.Layer, dtype: str) -> None:
    """Let a layer cast the states and masks in its inputs.

    Timesteps and sizes keep their type: bfloat16 cannot represent 999.
    """

    def enter(_layer: nn.Layer, inputs: tuple, options: dict) -> tuple[tuple, dict]:
        return _cast_all(inputs, dtype, least_dimensions=2), _cast_all(options, dtype, least_dimensions=2)

    layer.register_forward_pre_hook(enter, with_kwargs=True)


def cast_outputs(layer: nn.Layer) -> None:
    """Let a layer cast its outputs to float32."""
    layer.register_forward_post_hook(lambda _layer, _inputs, output: _cast_all(output, "float32"))


def cast_latents(vae: nn.Layer) -> None:
    """Let a VAE cast the latents that it decodes to its own type; a pipeline may keep them in another."""
    own = str(next(iter(vae.parameters())).dtype).rpartition(".")[2]
    vae.post_quant_conv.register_forward_pre_hook(lambda _layer, inputs: _cast_all(inputs, own))


def _cast_all(value: Any, dtype: str, least_dimensions: int = 0) -> Any:
    """A copy of a value, tuple, list, dictionary or model output with its floating tensors cast."""
    if isinstance(value, paddle.Tensor | paddle.pir.Value):  # the latter while a program is traced
        wanted = paddle.is_floating_point(value) and value.ndim >= least_dimensions
        return _as(value, dtype) if wanted else value
    if isinstance(value, dict):  # a model output is one too
        return type(value)(**{k: v if k == _SIZES else _cast_all(v, dtype, least_dimensions) for k, v in value.items()})
    if isinstance(value, tuple | list):
        return type(value)(_cast_all(one, dtype, least_dimensions) for one in value)
    return value


def _as(tensor: paddle.Tensor, dtype: str) -> paddle.Tensor:
    return tensor if tensor.dtype == getattr(paddle, dtype) else tensor.astype(dtype)
