"""Which of a concept's vectors stand in a training prompt: all of them, unless the user wants them varied.

Three ways to keep several vectors from leaning on one another: in random order, some left out at random, brought in
one after the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from textual_inversion.settings.train import PromptSettings
from textual_inversion.system.errors import SettingsError


@dataclass(frozen=True)
class VectorPlan:
    """Chooses the vectors of each training sample.

    Attributes:
        num_vectors: placeholder -> number of its vectors (N).
        shuffle: put them in random order.
        dropout: probability, 0 to 1, that a vector is left out; one always stays.
        progressive_steps: the first vector stands alone at the first step, and all N from this step on; 0: all at once.
    """

    num_vectors: Mapping[str, int]
    shuffle: bool = False
    dropout: float = 0.0
    progressive_steps: int = 0

    @property
    def varies(self) -> bool:
        """Whether there is anything to choose."""
        wanted = self.shuffle or self.dropout > 0 or self.progressive_steps > 0
        return wanted and max(self.num_vectors.values()) > 1

    def active(self, placeholder: str, step: int) -> int:
        """How many of a placeholder's vectors are in use at optimizer step `step`, counted from 0."""
        count = self.num_vectors[placeholder]
        if step >= self.progressive_steps:
            return count
        return 1 + (count - 1) * step // self.progressive_steps

    def __call__(self, generator: np.random.Generator, step: int) -> dict[str, tuple[int, ...]]:
        """Placeholder -> its vectors in one sample's prompt, counted from 0, in order.

        Args:
            generator: the sample's own source of random numbers.
            step: optimizer step, counted from 0.
        """
        chosen = {}
        for placeholder in self.num_vectors:
            vectors = np.arange(self.active(placeholder, step))
            if self.dropout:
                draws = generator.random(len(vectors))
                # The largest draw stays even where all of them are below the threshold.
                vectors = vectors[(draws >= self.dropout) | (draws == draws.max())]
            if self.shuffle:
                vectors = generator.permutation(vectors)
            chosen[placeholder] = tuple(int(i) for i in vectors)
        return chosen


def make_plan(settings: PromptSettings, num_vectors: Mapping[str, int], steps: int) -> VectorPlan:
    """The plan that the settings ask for.

    Args:
        num_vectors: placeholder token -> number of its vectors (N).
        steps: optimizer steps of the run.

    Raises:
        SettingsError: no concept has vectors to vary, or some would never be brought in.
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
            f"--progressive_vectors {progressive} ends after the run's {steps} steps, so the last vectors would stay "
            "as they start; give fewer steps, or no number for half of the run"
        )
    return plan
