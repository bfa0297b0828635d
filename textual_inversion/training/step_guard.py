"""Optimizer steps that are taken only if loss and gradient are finite.

A skipped step leaves vectors, moments and powers of beta exactly as they were, and the run continues with the next
samples. The decision is made on the device, from the gradient that the ranks have already averaged: there is no further
exchange, every rank decides alike, and the processor doesn't wait for the device. There are two exceptions, which read
a value back: the first step of a parameter, whose moments don't exist before it, and the counts every so often.
"""

from typing import Any

import paddle

from textual_inversion.training.loss_scale import LossScale
from textual_inversion.training.optimizer import accumulators_of, step_optimizer


class StepGuard:
    """Steps an optimizer, and skips the steps that NaN or infinite values would spoil.

    A gradient counts as infinite if the sum of its squares is, because moments and clipping need that sum. A step after
    which a vector would not be finite is skipped too.

    Args:
        optimizer: from `optimizer.make_optimizer`.
        parameters: all trained vectors, float32 [N, D] each.
        most_in_a_row: skipped steps in a row after which the run should stop, at least 1.
        loss_scale: what the gradients are divided by; it is told of each step. None: 1.

    Attributes:
        skipped: skipped steps as of the last `look`.
        in_a_row: those of them that no good step has followed, as of the last `look`.
        active_steps: for each parameter, the steps in which it took part, including skipped ones.
    """

    def __init__(self, optimizer: Any, parameters: list, most_in_a_row: int, loss_scale: LossScale | None = None):
        self._optimizer, self._parameters, self._most = optimizer, parameters, most_in_a_row
        self._loss_scale = loss_scale or LossScale(enabled=False)
        self.skipped = self.in_a_row = 0
        self.active_steps = [0] * len(parameters)
        self._numbers = {id(parameter): number for number, parameter in enumerate(parameters)}
        self._begun: set[int] = set()  # parameters that have moments
        self._skipped, self._in_a_row = (paddle.zeros([], dtype="int64") for _ in range(2))
        self._squares = paddle.zeros([len(parameters)])
        self._seen, self._due = 0, most_in_a_row  # steps so far; the step of the next look

    @paddle.no_grad()
    def spoil(self, loss: paddle.Tensor) -> None:
        """Make the gradient NaN if the loss isn't finite, before the ranks average it.

        Args:
            loss: this rank's, a scalar, including the penalties of regularizers.
        """
        gradient = next((p.grad for p in self._parameters if p.grad is not None), None)
        if gradient is not None:
            nothing = paddle.full_like(gradient, float("nan"))
            paddle.assign(paddle.where(paddle.isfinite(loss), gradient, nothing), output=gradient)

    @paddle.no_grad()
    def step(self, active: list) -> None:
        """Take one step of the optimizer or none; no gradient is left afterwards.

        Args:
            active: the parameters that take part, see `optimizer.step_optimizer`.
        """
        self._loss_scale.unscale(self._parameters)
        squares = paddle.stack([_sum_of_squares(p.grad) for p in self._parameters])  # (P,)
        good = paddle.isfinite(squares.sum())
        numbers = {self._numbers[id(parameter)] for parameter in active}
        if numbers <= self._begun:
            good = self._step_or_stay(active, good)
        elif good:
            step_optimizer(self._optimizer, self._parameters, active)
            self._begun |= numbers
        else:
            self._optimizer.clear_grad(set_to_zero=False)
        self._loss_scale.follow(good)
        for number in numbers:
            self.active_steps[number] += 1
        self._squares = self._squares + paddle.where(good, squares, paddle.zeros_like(squares))
        skipped = 1 - good.astype("int64")
        self._skipped, self._in_a_row = self._skipped + skipped, (self._in_a_row + skipped) * skipped
        self._seen += 1

    def _step_or_stay(self, active: list, good: paddle.Tensor) -> paddle.Tensor:
        """Step, and restore the old values if a flag on the device says so; returns whether the step is kept."""
        state = [*active, *accumulators_of(self._optimizer, active)]
        before = [tensor.clone() for tensor in state]
        step_optimizer(self._optimizer, self._parameters, active)
        for vectors in active:
            good = paddle.logical_and(good, paddle.isfinite(vectors).all())
        for tensor, old in zip(state, before, strict=True):
            # On a card this also brings the powers of beta there, which begin on the processor.
            paddle.assign(paddle.where(good, tensor, old), output=tensor)
        return good

    def look(self) -> None:
        """Read the counts; the processor waits for the device."""
        self.skipped, self.in_a_row = int(self._skipped), int(self._in_a_row)
        self._due = self._seen + max(1, self._most - self.in_a_row)

    def gives_up(self, *, is_last: bool = False) -> bool:
        """Whether so many steps in a row were skipped that the run should stop; call it after every step.

        The counts are read only when they could have reached that number: seldom while all is well.

        Args:
            is_last: there is no further step; a run that took none at all has failed, however short it was.
        """
        if is_last or self._seen >= self._due:
            self.look()
        return self.in_a_row >= self._most or (is_last and 0 < self._seen == self.skipped)

    def gradient_norms(self) -> list[float]:
        """For each parameter, the root of the summed squared gradients of all good steps; reads the device."""
        return [float(value) ** 0.5 for value in self._squares.numpy()]


def _sum_of_squares(gradient: paddle.Tensor | None) -> paddle.Tensor:
    """A float32 scalar; 0 if the loss did not depend on the parameter."""
    return paddle.zeros([]) if gradient is None else gradient.square().sum()
