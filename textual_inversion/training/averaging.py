"""The mean of a run's last embedding vectors, around which late steps move.

Polyak and Juditsky 1992; arXiv 1803.05407.
"""

from collections.abc import Mapping
from typing import Any

import paddle


class VectorAverage:
    """Sums the embedding vectors after each of the last steps, on the device; the last step replaces them by the mean.

    Args:
        parameters: the trained vectors, float32 [N, D] each.
        last: steps to average over; 0: none, and the vectors stay as the last step left them.
        steps: optimizer steps of the run.
    """

    def __init__(self, parameters: list, last: int, steps: int):
        self._parameters, self._last, self._steps = parameters, last, steps
        self._sums = [paddle.zeros(p.shape, dtype="float32") for p in parameters] if last else []

    @paddle.no_grad()
    def after_step(self, step: int) -> None:
        """Add the vectors as they are after optimizer step `step`, counted from 1; after the last, set the mean."""
        if not self._last or step <= self._steps - self._last:
            return
        self._sums = [total + parameter for total, parameter in zip(self._sums, self._parameters, strict=True)]
        if step == self._steps:
            for parameter, total in zip(self._parameters, self._sums, strict=True):
                paddle.assign(total / self._last, output=parameter)

    def state(self) -> dict[str, paddle.Tensor]:
        """What a resumed run must restore: by name, a float32 tensor [N, D] per parameter; {} if none is kept."""
        return {f"sum_{number}": total for number, total in enumerate(self._sums)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned, as tensors or arrays, at the step that follows."""
        self._sums = [paddle.to_tensor(state[f"sum_{number}"]) for number in range(len(self._sums))]
