"""Ways to train in less memory."""

import os

from textual_inversion.errors import SettingsError


def save_memory(model, *, gradient_checkpointing: bool, efficient_attention: bool) -> None:
    """Switch on what was asked for.

    Args:
        model: a `models.BaseModel`.
        gradient_checkpointing: keep few activations of the U-Net and compute the others again on the way back
            (arXiv 1604.06174); loss and gradients stay the same.
        efficient_attention: attention that never holds the whole matrix of weights (arXiv 2112.05682).

    Raises:
        SettingsError: this machine or this paddle build has no such attention.
    """
    if gradient_checkpointing:
        # Without this variable ppdiffusers leaves most blocks as they are.
        os.environ["FLAG_USE_OLD_RECOMPUTE"] = "1"
        model.unet.enable_gradient_checkpointing()
        model.unet.train()  # the blocks look at this flag; a Stable Diffusion U-Net has no dropout that it would start
    if efficient_attention:
        try:
            model.unet.enable_xformers_memory_efficient_attention()
        except Exception as error:
            reason = str(error).strip().splitlines()[0]
            raise SettingsError(
                f"--enable_xformers_memory_efficient_attention cannot be used here ({reason}); "
                "it needs a GPU and paddlepaddle-gpu, leave it out"
            ) from error
