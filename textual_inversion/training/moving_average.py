"""A moving mean of the embedding vectors over the optimizer steps, which stands for them wherever they are shown.

Training goes on from the vectors themselves. What is saved, measured, drawn and judged is the mean, and at the end it
takes their place. A checkpoint holds both, so a resumed run continues bit for bit, also beyond the planned end.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import paddle


class MovingAverage:
    """The mean e of the vectors v: after the first step v, then e = d e + (1 - d) v with d = min(decay, s / (s + 9)).

    The bound, with s steps before, makes the mean forget its beginning: it spans about the last tenth of the steps.

    Args:
        parameters: the trained vectors, float32 [N, D] each.
        decay: in [0, 1); None: there is no mean, and nothing is done.
    """

    def __init__(self, parameters: list, decay: float | None):
        self._parameters, self._decay = parameters, decay
        self._means: list[paddle.Tensor] = []

    @paddle.no_grad()
    def after_step(self, step: int) -> None:
        """Follow the vectors as they are after optimizer step `step`, counted from 1."""
        if self._decay is None:
            return
        if not self._means:
            self._means = [parameter.clone() for parameter in self._parameters]
            return
        decay = min(self._decay, step / (step + 9))
        pairs = zip(self._means, self._parameters, strict=True)
        self._means = [decay * mean + (1 - decay) * parameter for mean, parameter in pairs]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it the parameters hold the mean; afterwards what they held before."""
        before = [parameter.clone() for parameter in self._parameters] if self._means else []
        self.put()
        try:
            yield
        finally:
            self._set(before)

    def put(self) -> None:
        """Replace the vectors by their mean, if there is one."""
        self._set(self._means)

    @paddle.no_grad()
    def _set(self, values: list[paddle.Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=bool(values)):
            paddle.assign(value, output=parameter)

    def state(self) -> dict[str, paddle.Tensor]:
        """What a resumed run must restore: by name, a float32 tensor [N, D] per parameter; {} if there is no mean."""
        return {f"mean_{number}": mean for number, mean in enumerate(self._means)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned, as tensors or arrays, at the step that follows."""
        if self._decay is not None:
            shapes = [tuple(parameter.shape) for parameter in self._parameters]
            means = [paddle.to_tensor(state[f"mean_{number}"]) for number in range(len(shapes))]
            if [tuple(mean.shape) for mean in means] != shapes:
                raise ValueError("the means have other shapes than the vectors")
            self._means = means
