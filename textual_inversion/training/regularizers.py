"""Terms beside the denoising loss that keep the new vectors close to language.

With v_i the N vectors, v_i0 their initial values, m the mean norm of the frozen table's rows, and h, h' the text
encoder's output at the end token for a prompt and for the same prompt with the initializer in the placeholder token's
position:

    norm      mean_i (|v_i| - m)^2
    initial   mean_i |v_i - v_i0|^2
    hidden    mean over dimensions of (h - h')^2

The first and the last follow the idea of the advanced configuration of Determined AI's example.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import paddle

from textual_inversion.models.base_model import BaseModel
from textual_inversion.settings.train_method import RegularizerSettings
from textual_inversion.system.device import to_device
from textual_inversion.training.state import ConceptVectors

_MOST_KEPT = 4096  # hidden states of prompts


def norm_penalty(vectors, target: float):
    """Mean squared difference between the norms of vectors [N, D] and `target`: a scalar."""
    return (vectors.norm(axis=1) - target).square().mean()


def initial_penalty(vectors, initial):
    """Mean squared distance of vectors [N, D] from their initial values [N, D]: a scalar."""
    return (vectors - initial).square().sum(axis=1).mean()


def hidden_penalty(states, wanted):
    """Mean squared difference of hidden states [B, D]: a scalar."""
    return (states - wanted).square().mean()


class Regularizer:
    """The weighted sum of the penalties; costs nothing where all weights are 0.

    Args:
        model: a `base_model.BaseModel` with vectors attached.
        embeddings: text encoder name -> its ConceptEmbedding, as they are before training.
        initializers: placeholder -> phrase that takes its place for the hidden states.
        norm_weight, initial_weight, hidden_weight: weights of the penalties, at least 0.
    """

    def __init__(
        self,
        model,
        embeddings: Mapping[str, object],
        initializers: Mapping[str, str],
        *,
        norm_weight: float = 0.0,
        initial_weight: float = 0.0,
        hidden_weight: float = 0.0,
    ):
        self._model, self._embeddings, self._initializers = model, embeddings, initializers
        self._norm_weight, self._initial_weight, self._hidden_weight = norm_weight, initial_weight, hidden_weight
        self._target_norms = {name: float(e.table.norm(axis=1).mean()) for name, e in embeddings.items()}
        self._initial = {name: e.vectors.detach().clone() for name, e in embeddings.items()}
        self._wanted: dict[str, paddle.Tensor] = {}

    def penalty(self, prompts: Sequence[str], readings, hidden_states):
        """The penalty of one micro-batch: a scalar tensor, or 0.0 where nothing is weighted.

        Args:
            prompts, readings: what was encoded.
            hidden_states: float [B, L, D], what the text encoder made of it.
        """
        total = 0.0
        for name, embedding in self._embeddings.items():
            if self._norm_weight:
                total = total + self._norm_weight * norm_penalty(embedding.vectors, self._target_norms[name])
            if self._initial_weight:
                total = total + self._initial_weight * initial_penalty(embedding.vectors, self._initial[name])
        if self._hidden_weight:
            states = at_ends(hidden_states, self._model.text_encoders[0].encode_ids.ends(prompts, readings))
            total = total + self._hidden_weight * hidden_penalty(states, self._wanted_states(prompts))
        return total

    @paddle.no_grad()
    def _wanted_states(self, prompts: Sequence[str]):
        """End states [B, D] of the prompts with the initializers in them; each distinct prompt is encoded once."""
        encode_ids = self._model.text_encoders[0].encode_ids
        if len(self._wanted) > _MOST_KEPT:  # where captions are varied, there is no end of prompts
            self._wanted.clear()
        for prompt in dict.fromkeys(prompts):
            if prompt not in self._wanted:
                plain = [encode_ids.replaced(prompt, self._initializers)]
                self._wanted[prompt] = at_ends(self._model.encode_prompts(plain).hidden_states, encode_ids.ends(plain))
        return paddle.concat([self._wanted[prompt] for prompt in prompts])


def make_regularizer(settings: RegularizerSettings, model: BaseModel, vectors: ConceptVectors) -> Regularizer:
    """The regularizer that the settings ask for."""
    return Regularizer(
        model,
        vectors.embeddings,
        {c.placeholder_token: c.initializer_token for c in vectors.concepts if c.initializer_token is not None},
        norm_weight=settings.norm_reg_weight,
        initial_weight=settings.initial_reg_weight,
        hidden_weight=settings.hidden_reg_weight,
    )


def at_ends(hidden_states, ends: np.ndarray):
    """Hidden states [B, L, D] at one position each, int64 [B] in [0, L): [B, D]."""
    positions = np.stack([np.arange(len(ends)), ends], axis=1)
    return paddle.gather_nd(hidden_states, to_device(positions))
