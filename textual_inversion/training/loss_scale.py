"""Dynamic loss scale for float16 (arXiv 1710.03740, section 3.2), kept on the device.

A gradient below 6e-8 is zero in float16. So the loss is multiplied by a scale before the way back, and the gradient of
the rows, in float32, is divided by it afterwards, before anything looks at it: clipping and counts see the true one.
An overflow is found by the `StepGuard`, which skips that step; the scale is then halved. After `patience` good steps
in a row it is doubled. All ranks decide alike, because the guard looks at the gradient that they have averaged.
"""

import paddle

_FIRST, _LOWEST, _HIGHEST = 2.0**16, 1.0, 2.0**24


class LossScale:
    """The scale and the number of good steps since it last changed.

    Args:
        enabled: False: the scale is 1 for good, and nothing is computed.
        first, lowest, highest: of the scale; powers of two, which change no digit of a gradient.
        patience: good steps in a row after which the scale is doubled.
    """

    def __init__(
        self,
        *,
        enabled: bool = True,
        first: float = _FIRST,
        lowest: float = _LOWEST,
        highest: float = _HIGHEST,
        patience: int = 1000,
    ):
        self.enabled, self._lowest, self._highest, self._patience = enabled, lowest, highest, patience
        self._scale = paddle.full([], first, dtype="float32")
        self._streak = paddle.zeros([], dtype="int64")

    def scaled(self, loss):
        """What to go back from: the loss, a float32 scalar, times the scale."""
        return loss * self._scale if self.enabled else loss

    @paddle.no_grad()
    def unscale(self, parameters: list) -> None:
        """Divide the gradients, float32, by the scale; what overflowed stays infinite or no number."""
        if self.enabled:
            for parameter in parameters:
                if parameter.grad is not None:
                    paddle.assign(parameter.grad / self._scale, output=parameter.grad)

    @paddle.no_grad()
    def follow(self, good) -> None:
        """Adapt to a step; `good` is the guard's flag, a bool scalar on the device, which is not read here."""
        if not self.enabled:
            return
        streak = (self._streak + 1) * good.astype("int64")
        full = streak >= self._patience
        grown = paddle.where(full, self._scale * 2.0, self._scale).clip(max=self._highest)
        self._scale = paddle.where(good, grown, (self._scale / 2.0).clip(min=self._lowest))
        self._streak = paddle.where(full, paddle.zeros_like(streak), streak)

    def state(self) -> dict:
        """What a resumed run must take over: tensors by name; {} where it is not enabled."""
        return {"scale": self._scale, "streak": self._streak} if self.enabled else {}

    def restore(self, state: dict) -> None:
        """Go on from what `state` gave, as tensors or arrays."""
        if self.enabled and state:
            self._scale = paddle.to_tensor(state["scale"], dtype="float32")
            self._streak = paddle.to_tensor(state["streak"], dtype="int64")
