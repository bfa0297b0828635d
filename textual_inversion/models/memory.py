"""Ways to train in less memory."""

import os
from typing import Any

import paddle
from paddle import nn
from paddle.distributed.fleet.utils import recompute

from textual_inversion.models.base_model import BaseModel
from textual_inversion.models.layers.attention import ROWS, work_in_blocks
from textual_inversion.system.errors import SettingsError

_EFFICIENT = "--enable_xformers_memory_efficient_attention"


def save_memory(model: BaseModel, *, gradient_checkpointing: bool, efficient_attention: bool) -> None:
    """Switch on the requested ways to save memory.

    Args:
        gradient_checkpointing: keep few activations of U-Net and text encoders, and compute the others again in the
            backward pass (arXiv 1604.06174); loss and gradients stay the same.
        efficient_attention: attention that never holds the whole matrix of weights (arXiv 2112.05682).

    Raises:
        SettingsError: this machine or this paddle build has no such attention.
    """
    if gradient_checkpointing:
        # Without this variable ppdiffusers leaves most blocks unchanged.
        os.environ["FLAG_USE_OLD_RECOMPUTE"] = "1"
        model.unet.enable_gradient_checkpointing()
        model.unet.train()  # the blocks check this mode; a Stable Diffusion U-Net has no dropout
        for encoder in model.text_encoders:
            for layer in encoder.transformer_layers:
                _recompute_in_backward(layer)
    if efficient_attention:
        try:
            model.unet.enable_xformers_memory_efficient_attention()
        except Exception as error:
            reason = str(error).strip().splitlines()[0]
            raise SettingsError(
                f"{_EFFICIENT} cannot be used here ({reason}); it needs a GPU and paddlepaddle-gpu, leave it out: "
                "on a CPU attention works in blocks anyway"
            ) from error


def work_in_parts(model: BaseModel, *, has_efficient_attention: bool) -> str:
    """Let attention and VAE work part by part, for `--low_memory`.

    Args:
        has_efficient_attention: memory-efficient attention is switched on already.

    Returns:
        A description for the user.
    """
    how = "memory-efficient"
    if not has_efficient_attention:
        try:
            model.unet.enable_xformers_memory_efficient_attention()
        except Exception:  # not available here; the other ways need no kernel of their own
            if paddle.device.get_device() == "cpu":
                work_in_blocks(model.unet, keep=0)
                how = f"in blocks of {ROWS} rows"
            else:
                model.unet.set_attention_slice("max")
                how = "one head at a time"
    model.prepare_vae(_vae_in_parts)
    return f"attention {how}, VAE one image at a time, in tiles above its own image size"


def _vae_in_parts(vae: nn.Layer) -> None:
    vae.enable_slicing()
    vae.enable_tiling()


def keeps_vae(*, random_crops: bool, draws: bool, low_memory: bool) -> bool:
    """Whether the VAE stays in memory between uses.

    Random crops are encoded in every step. Validation images need it now and then: with `--low_memory` it is
    read from its file each time, else it stays in memory for them.

    Args:
        random_crops: training images are cropped at random.
        draws: validation images are made.
    """
    return random_crops or (draws and not low_memory)


def low_memory_line(train_batch_size: int, accumulation: int, in_parts: str, *, keep_vae: bool) -> str:
    """What `--low_memory` chose, for the user; `in_parts` is what `work_in_parts` gave."""
    chosen = f"--train_batch_size {train_batch_size} --gradient_accumulation_steps {accumulation}"
    vae = "the VAE stays for the random crops" if keep_vae else "the VAE leaves memory whenever it is not needed"
    return f"low memory: {chosen} --gradient_checkpointing; {in_parts}; {vae}; images are made one by one"


def _recompute_in_backward(layer: nn.Layer) -> None:
    """Let a layer keep only its inputs where a gradient is needed, and run again in the backward pass."""
    forward = layer.forward

    def run(*inputs: Any, **options: Any) -> Any:
        tensors = [value for value in (*inputs, *options.values()) if isinstance(value, paddle.Tensor)]
        if not paddle.is_grad_enabled() or all(tensor.stop_gradient for tensor in tensors):
            return forward(*inputs, **options)
        # Nothing in a frozen encoder is random, so there is no generator state to keep.
        return recompute(forward, *inputs, preserve_rng_state=False, use_reentrant=False, **options)

    layer.forward = run
