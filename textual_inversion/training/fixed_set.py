"""The loss on a fixed set of samples: whether the vectors learn."""

from collections.abc import Sequence

import numpy as np
import paddle

from textual_inversion.data.dataset import TrainingSet
from textual_inversion.data.sampler import Batch
from textual_inversion.models.base_model import BaseModel
from textual_inversion.training import loss


class FixedSet:
    """The loss on samples that never change.

    The training loss says mostly which timesteps were drawn. On fixed images, timesteps and noises, what is left is
    whether the vectors learn.

    Args:
        model: with the concepts attached.
        batches: the samples, of one bucket each.
        chunk: samples per pass through the U-Net.
    """

    def __init__(self, model: BaseModel, data: TrainingSet, batches: Sequence[Batch], chunk: int):
        self._model, self._alphas = model, model.noise_scheduler.alphas_cumprod
        self._parts = []  # (prompts, size, latents, noise, timesteps, mask) of at most `chunk` samples each
        for batch in batches:
            size = data.shapes[batch.bucket]
            latents, mask = data.latents.sample(batch), data.mask(batch)
            noise, timesteps = paddle.to_tensor(batch.noise), paddle.to_tensor(batch.timesteps)
            for first in range(0, len(batch.prompts), chunk):
                part = slice(first, first + chunk)
                masked = None if mask is None else mask[part]
                self._parts.append((batch.prompts[part], size, latents[part], noise[part], timesteps[part], masked))

    @paddle.no_grad()
    def losses(self) -> np.ndarray:
        """Mean squared error of each sample's prediction, where its mask lets it count: float64 [samples]."""
        found = []
        for texts, size, latents, noise, timesteps, mask in self._parts:
            noisy_latents = loss.add_noise(latents, noise, self._alphas, timesteps)
            prompts = self._model.encode_prompts(texts, image_size=size)
            prediction = self._model.unet(noisy_latents, timesteps, prompts.hidden_states, **prompts.added).sample
            target = loss.training_target(self._model.prediction_type, latents, noise, self._alphas, timesteps)
            found.append(loss.sample_losses(prediction, target, mask=mask).numpy().astype(np.float64))
        return np.concatenate(found)
