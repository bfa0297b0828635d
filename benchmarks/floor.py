"""The least work a training step can do: text encoder and U-Net, forward, and backward to the new vectors.

The inputs are fixed and prepared; nothing is sampled, logged or optimised; everything but the vectors is frozen. The
modules are those of a training run: as they are, and with the layers that this project replaces put back.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


class Floor:
    """The bare pass, to be repeated.

    Args:
        text_encoder, unet: frozen except for the vectors.
        parameters: the vectors, whose gradient is computed.
        ids: int64 [B, L], with the id of a new vector among them.
        latents: float32 [B, C, H, W].
    """

    def __init__(self, text_encoder, unet, parameters: list, ids: np.ndarray, latents: np.ndarray):
        import paddle

        generator = np.random.default_rng(0)
        self._text_encoder, self._unet, self._parameters = text_encoder, unet, parameters
        self._ids = paddle.to_tensor(np.asarray(ids, dtype=np.int64))
        self._latents = paddle.to_tensor(latents.astype(np.float32))
        self._target = paddle.to_tensor(generator.standard_normal(latents.shape, dtype=np.float32))
        self._timesteps = paddle.to_tensor(generator.integers(0, 1000, len(ids)))

    @classmethod
    def of_run(cls, config, run) -> "Floor":
        """With the modules, vectors, prompts and shapes of a training run; for models with one text encoder."""
        (encoder,) = run.model.text_encoders
        batch = run.samples.batch(0, range(config.training.train_batch_size))
        return cls(
            encoder.layer,
            run.model.unet,
            run.vectors.parameters,
            encoder.encode_ids(batch.prompts, batch.readings),
            batch.noise,
        )

    def run(self) -> float:
        """One pass; returns the norm of the gradient and clears it."""
        import paddle.nn.functional as F

        hidden_states = self._text_encoder(self._ids, return_dict=True)[0]  # (B, L, D)
        prediction = self._unet(self._latents, self._timesteps, hidden_states).sample  # (B, C, H, W)
        F.mse_loss(prediction, self._target).backward()
        norm = float(sum((part.grad**2).sum() for part in self._parameters)) ** 0.5
        for part in self._parameters:
            part.clear_gradient(False)
        return norm

    def seconds(self) -> float:
        """How long one pass takes."""
        begin = time.perf_counter()
        self.run()
        return time.perf_counter() - begin

    def plain_seconds(self) -> float:
        """How long one pass takes with ppdiffusers' modules as they are."""
        with as_shipped(self._text_encoder, self._unet):
            return self.seconds()


@contextmanager
def as_shipped(*modules) -> Iterator[None]:
    """Inside, modules have ppdiffusers' and paddle's own layer norms and attention where ours replace them."""
    from paddle import nn
    from ppdiffusers.models.attention_processor import Attention, AttnProcessor

    from textual_inversion.models.layers.attention import BlockwiseAttnProcessor
    from textual_inversion.models.layers.frozen_layer_norm import FrozenLayerNorm

    parts = [part for module in modules for part in module.sublayers(include_self=True)]
    norms = [part for part in parts if type(part) is FrozenLayerNorm]
    processors = {part: part.processor for part in parts if isinstance(part, Attention)}
    for part in norms:
        part.__class__ = nn.LayerNorm
    for part, own in processors.items():
        part.set_processor(AttnProcessor() if type(own) is BlockwiseAttnProcessor else own)
    try:
        yield
    finally:
        for part in norms:
            part.__class__ = FrozenLayerNorm
        for part, own in processors.items():
            part.set_processor(own)
