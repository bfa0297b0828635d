"""Which of a concept's vectors a training prompt contains: all of them, unless the user wants them varied.

Several vectors of one concept can come to depend on one another. Three ways prevent that: shuffling them, dropping some
at random, and adding them one by one during the run.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from textual_inversion.settings.train_data import PromptSettings
from textual_inversion.system.errors import SettingsError


@dataclass(frozen=True)
class VectorPlan:
    """Chooses the vectors of each training sample.

    Attributes:
        num_vectors: placeholder token -> number of its vectors (N).
        shuffle: put the vectors in random order.
        dropout: probability, 0 to 1, that a vector is dropped; at least one stays.
        progressive_steps: only the first vector is used at the first step, and all N from this step on; 0: all at once.
    """

    num_vectors: Mapping[str, int]
    shuffle: bool = False
    dropout: float = 0.0
    progressive_steps: int = 0

    @property
    def varies(self) -> bool:
        """Whether samples can differ in their vectors."""
        wanted = self.shuffle or self.dropout > 0 or self.progressive_steps > 0
        return wanted and max(self.num_vectors.values()) > 1

    def active(self, placeholder: str, step: int) -> int:
        """How many vectors of a placeholder token are in use at optimizer step `step`, counted from 0."""
        count = self.num_vectors[placeholder]
        if step >= self.progressive_steps:
            return count
        return 1 + (count - 1) * step // self.progressive_steps

    def __call__(self, generator: np.random.Generator, step: int) -> dict[str, tuple[int, ...]]:
        """Placeholder token -> its vectors in the prompt of one sample, counted from 0, in order.

        Args:
            generator: the sample's own random numbers.
            step: optimizer step, counted from 0.
        """
        chosen = {}
        for placeholder in self.num_vectors:
            vectors = np.arange(self.active(placeholder, step))
            if self.dropout:
                draws = generator.random(len(vectors))
                # The vector with the largest draw stays, even if all draws are below the threshold.
                vectors = vectors[(draws >= self.dropout) | (draws == draws.max())]
            if self.shuffle:
                vectors = generator.permutation(vectors)
            chosen[placeholder] = tuple(int(i) for i in vectors)
        return chosen


def make_plan(settings: PromptSettings, num_vectors: Mapping[str, int], steps: int) -> VectorPlan:
    """The plan for the settings of a run.

    Args:
        num_vectors: placeholder token -> number of its vectors (N).
        steps: optimizer steps of the run.

    Raises:
        SettingsError: no concept has several vectors, or some vectors would never be used.
    """
    progressive = settings.progressive_vectors
    plan = VectorPlan(num_vectors, settings.vector_shuffle, settings.token_dropout, progressive)
    asked = [flag for flag in ("vector_shuffle", "token_dropout", "progressive_vectors") if getattr(settings, flag)]
    if asked and not plan.varies:
        raise SettingsError(
            f"--{asked[0]} has no effect on a concept of one vector; raise --num_vectors, or leave it out"
        )
    if plan.varies and progressive >= steps:
        raise SettingsError(
            f"--progressive_vectors {progressive} ends after the run's {steps} steps, so the last vectors would never "
            "be trained; give fewer steps, or no number for half of the run"
        )
    return plan
