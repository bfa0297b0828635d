"""Dynamic loss scale for float16 (arXiv 1710.03740, section 3.2), kept on the device.

A gradient below 6e-8 is zero in float16. So the loss is multiplied by a scale before backward, and the float32 gradient
of the embedding vectors is divided by it before anything uses it: clipping and the counts see the true gradient. The
`StepGuard` detects an overflow and skips that step; the scale is then halved. After `patience` good steps in a row it
is doubled. All ranks decide alike, because the guard looks at the gradient that they have averaged.
"""

from collections.abc import Mapping
from typing import Any

import paddle

_FIRST, _LOWEST, _HIGHEST = 2.0**16, 1.0, 2.0**24


class LossScale:
    """The scale, and the number of good steps since it last changed.

    Args:
        enabled: False: the scale is always 1, and nothing is computed.
        first: initial value of the scale; a power of two, which changes no digit of a gradient.
        patience: good steps in a row after which the scale is doubled.
    """

    def __init__(self, *, enabled: bool = True, first: float = _FIRST, patience: int = 1000):
        self.enabled, self._patience = enabled, patience
        self._scale = paddle.full([], first, dtype="float32")
        self._streak = paddle.zeros([], dtype="int64")

    def scaled(self, loss: paddle.Tensor) -> paddle.Tensor:
        """The loss, a float32 scalar, times the scale: what backward starts from."""
        return loss * self._scale if self.enabled else loss

    @paddle.no_grad()
    def unscale(self, parameters: list) -> None:
        """Divide the float32 gradients by the scale; what overflowed stays infinite or NaN."""
        if self.enabled:
            for parameter in parameters:
                if parameter.grad is not None:
                    paddle.assign(parameter.grad / self._scale, output=parameter.grad)

    @paddle.no_grad()
    def follow(self, good: paddle.Tensor) -> None:
        """Adapt to a step. `good` is the guard's flag, a bool scalar on the device, which isn't read here."""
        if not self.enabled:
            return
        streak = (self._streak + 1) * good.astype("int64")
        full = streak >= self._patience
        grown = paddle.where(full, self._scale * 2.0, self._scale).clip(max=_HIGHEST)
        self._scale = paddle.where(good, grown, (self._scale / 2.0).clip(min=_LOWEST))
        self._streak = paddle.where(full, paddle.zeros_like(streak), streak)

    def state(self) -> dict[str, paddle.Tensor]:
        """What a resumed run must restore: tensors by name; {} if the scale isn't enabled."""
        return {"scale": self._scale, "streak": self._streak} if self.enabled else {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned, as tensors or arrays."""
        if self.enabled and state:
            self._scale = paddle.to_tensor(state["scale"], dtype="float32")
            self._streak = paddle.to_tensor(state["streak"], dtype="int64")
