"""Training a word for what is not wanted away from good images (`--contrast_data_dir`).

Such a word stands in the negative prompt. With the prediction w of the U-Net for a prompt with the word, and p for the
same prompt without it, guidance of scale g (arXiv 2207.12598) predicts

    w + g (p - w)

Bad images are learned as any concept is. A good image is what guidance should lead to: at g = 2 its own target e is
predicted where w = 2 p - e. So the prediction with the word learns this mirrored target there: in the mean over the
noise it is p, moved as far from the good image as the good image is from p. At other scales the direction is the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import paddle
from paddle import Tensor

from textual_inversion.data.dataset import TrainingSet
from textual_inversion.data.sampler import Batch
from textual_inversion.models.base_model import BaseModel
from textual_inversion.models.prompt_encoder import Reading
from textual_inversion.models.unet_forward import make_predictor
from textual_inversion.system.device import to_device


@dataclass(frozen=True)
class Contrast:
    """The good images of a run, in its loss.

    Attributes:
        model: with the concepts attached.
        data: knows which of a batch's images are good ones.
        placeholders: the placeholder token of each concept.
        weight: of the loss on good images.
        predict: the U-Net, op by op: a micro-batch holds now more, now fewer of them.
    """

    model: BaseModel
    data: TrainingSet
    placeholders: Sequence[str]
    weight: float
    predict: Callable

    @paddle.no_grad()
    def mirrored(self, target: Tensor, noisy_latents: Tensor, batch: Batch) -> Tensor:
        """The target [B, C, H, W] of a micro-batch, mirrored at the plain prediction where an image is a good one."""
        good = self.data.contrasts(batch)
        if not len(good):
            return target
        plain = [self._without_word(batch.readings[i], batch.images[i]) for i in good]
        prompts = self.model.encode_prompts([batch.prompts[i] for i in good], plain, self.data.shapes[batch.bucket])
        chosen = to_device(good)
        latents, timesteps = paddle.gather(noisy_latents, chosen), to_device(batch.timesteps[good])
        moved = 2.0 * (self.predict(latents, timesteps, prompts) - paddle.gather(target, chosen))
        return paddle.scatter_nd_add(target, chosen.unsqueeze(1), moved.astype(target.dtype))

    def weights(self, batch: Batch, weights: Tensor | None) -> Tensor | None:
        """The weight of each sample's loss, float32 [B], times `weight` for good images; None if all weigh the same."""
        good = self.data.contrasts(batch)
        if not len(good) or self.weight == 1.0:
            return weights
        own = np.ones(len(batch.prompts), np.float32)
        own[good] = self.weight
        return to_device(own) if weights is None else weights * to_device(own)

    def _without_word(self, reading: Reading, image: int) -> Reading:
        word = self.placeholders[self.data.images[image].concept]
        return replace(reading, vectors={**reading.vectors, word: ()})


def make_contrast(model: BaseModel, data: TrainingSet, placeholders: Sequence[str], weight: float) -> Contrast | None:
    """What the loss needs of the good images; None where a run has none."""
    if not any(image.is_contrast for image in data.images):
        return None
    return Contrast(model, data, placeholders, weight, make_predictor(model))
