"""The U-Net's prediction in a training step, op by op or, with `--compile`, as one program.

`paddle.jit.to_static` traces the U-Net once for every shape of a batch; forward and backward then run without Python
between the operations. The results stay the same. Validation images are always made op by op.
"""

from collections.abc import Callable

import paddle
from paddle import Tensor, nn

from textual_inversion.models.base_model import BaseModel
from textual_inversion.models.config_checks import IN_USE, explained
from textual_inversion.models.families import PromptEmbedding


def make_predictor(model: BaseModel, *, compiled: bool = False) -> Callable[[Tensor, Tensor, PromptEmbedding], Tensor]:
    """A function of (noisy latents [B, C, H, W], timesteps int64 [B], `families.PromptEmbedding`).

    Args:
        compiled: run the U-Net as one program.

    Returns:
        A function that returns the U-Net's prediction, float32 [B, C, H, W]; gradients flow to the prompt embeddings.
    """
    if not compiled:

        def compute(latents: Tensor, timesteps: Tensor, prompts: PromptEmbedding) -> Tensor:
            with explained(model.folder / "unet", IN_USE):
                return model.unet(latents, timesteps, prompts.hidden_states, **prompts.added).sample

        return compute
    program = paddle.jit.to_static(_as_function(model.unet), full_graph=True)

    def predict(latents: Tensor, timesteps: Tensor, prompts: PromptEmbedding) -> Tensor:
        added = prompts.added.get("added_cond_kwargs", {})
        return program(latents, timesteps, prompts.hidden_states, added.get("text_embeds"), added.get("time_ids"))

    return predict


def _as_function(unet: nn.Layer) -> Callable:
    """The U-Net as a function of tensors only, which can be traced."""

    def predict(
        latents: Tensor,
        timesteps: Tensor,
        hidden_states: Tensor,
        text_embeds: Tensor | None,
        time_ids: Tensor | None,
    ) -> Tensor:
        added = None if text_embeds is None else {"text_embeds": text_embeds, "time_ids": time_ids}
        return unet(latents, timesteps, hidden_states, added_cond_kwargs=added, return_dict=False)[0]

    return predict
