"""The U-Net's prediction in a training step, op by op or, with `--compile`, as one program.

`paddle.jit.to_static` traces the U-Net once for every shape of a batch; forward and backward then run without Python
between the operations. Numbers stay the same. Sample pictures are made op by op as ever.
"""

from collections.abc import Callable

import paddle


def make_predictor(model, *, compiled: bool = False) -> Callable:
    """A function of (noisy latents [B, C, H, W], timesteps int64 [B], `families.PromptEmbedding`).

    Args:
        model: a `models.BaseModel`.
        compiled: as one program.

    Returns:
        It gives what the U-Net predicts, float32 [B, C, H, W]; gradients flow to what the prompts were made of.
    """
    if not compiled:
        return lambda latents, timesteps, prompts: (
            model.unet(latents, timesteps, prompts.hidden_states, **prompts.added).sample
        )
    program = paddle.jit.to_static(_as_function(model.unet), full_graph=True)

    def predict(latents, timesteps, prompts):
        told = prompts.added.get("added_cond_kwargs", {})
        return program(latents, timesteps, prompts.hidden_states, told.get("text_embeds"), told.get("time_ids"))

    return predict


def _as_function(unet):
    """The U-Net as a function of tensors alone, which is what can be traced."""

    def predict(latents, timesteps, hidden_states, text_embeds, time_ids):
        told = None if text_embeds is None else {"text_embeds": text_embeds, "time_ids": time_ids}
        return unet(latents, timesteps, hidden_states, added_cond_kwargs=told, return_dict=False)[0]

    return predict
