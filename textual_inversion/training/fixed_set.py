"""The loss on a fixed set of samples: whether the vectors learn, at how much noise, and from which images."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import paddle

from textual_inversion.data.dataset import TrainingSet
from textual_inversion.data.sampler import Batch, SampleStream
from textual_inversion.models.base_model import BaseModel
from textual_inversion.training import loss
from textual_inversion.training.state import Run

# Thirds of the noise schedule, by which the loss is told: details are learned at little noise, the whole at much.
BANDS = ("little_noise", "half_noise", "much_noise")


def bands_of(timesteps: np.ndarray, low: int, high: int) -> np.ndarray:
    """Which third of the half-open range [low, high) each timestep is in: int64 of 0 to 2."""
    return (np.asarray(timesteps) - low) * len(BANDS) // (high - low)


def by_group(losses: np.ndarray, groups: np.ndarray) -> dict[int, float]:
    """Group -> mean loss of its samples, of the groups that have any, in order.

    Args:
        losses, groups: of each sample.
    """
    return {int(group): float(losses[groups == group].mean()) for group in np.unique(groups)}


class FixedSet:
    """The loss on samples that never change.

    The training loss says mostly which timesteps were drawn. On fixed images, timesteps and noises, what is left is
    whether the vectors learn.

    Args:
        model: with the concepts attached.
        batches: the samples, of one bucket each.
        chunk: samples per pass through the U-Net.
        timestep_range: the half-open range that the samples' timesteps are spread over.

    Attributes:
        images: the image of each sample, by its index: int64 [samples].
        bands: which third of the range each sample's timestep is in, 0 to 2, as in `BANDS`: int64 [samples].
    """

    def __init__(
        self,
        model: BaseModel,
        data: TrainingSet,
        batches: Sequence[Batch],
        chunk: int,
        timestep_range: tuple[int, int],
    ):
        self._model, self._alphas = model, model.noise_scheduler.alphas_cumprod
        self.images = np.concatenate([batch.images for batch in batches])
        self.bands = bands_of(np.concatenate([batch.timesteps for batch in batches]), *timestep_range)
        self._parts = []  # (prompts, size, latents, noise, timesteps, mask) of at most `chunk` samples each
        for batch in batches:
            size = data.shapes[batch.bucket]
            latents, mask = data.latents.sample(batch), data.mask(batch)
            noise, timesteps = paddle.to_tensor(batch.noise), paddle.to_tensor(batch.timesteps)
            for first in range(0, len(batch.prompts), chunk):
                part = slice(first, first + chunk)
                masked = None if mask is None else mask[part]
                self._parts.append((batch.prompts[part], size, latents[part], noise[part], timesteps[part], masked))

    def by_band(self, losses: np.ndarray) -> dict[str, float]:
        """Part of the schedule, as in `BANDS` -> mean loss of its samples; of those parts that have any.

        Args:
            losses: from `losses`.
        """
        return {BANDS[band]: loss for band, loss in by_group(losses, self.bands).items()}

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


def measured_on(run: Run) -> tuple[TrainingSet, SampleStream]:
    """The images that the loss is measured on, and their samples: the held-out ones where there are some."""
    if run.held_out is None:
        return run.data, run.samples
    return run.held_out, replace(run.samples, images=run.held_out.images, latent_shapes=run.held_out.latent_shapes)
