"""Optimizers that Paddle does not have, by the formulas of their papers.

They keep what they remember where Paddle's own do, by name and parameter, so checkpoints, skipped steps and vectors
that rest need to know nothing of them. Everything stays on the device: no step waits for a number.

Each parameter is a problem of its own: what the papers compute over all parameters (the distance D, the size of the
vectors) is that of one concept in one text encoder, so a concept that rests changes nothing for another one.

With vectors x, gradient g, rate a of the schedule and weight decay w, which shrinks x by the step's size times w:

    lion          c = b1 m + (1 - b1) g;  x -= a (sign(c) + w x);  m = b2 m + (1 - b2) g        (arXiv 2302.06675)
    adafactor     q = 1 - t^-0.8;  R = q R + (1 - q)(row sums of g^2 + 1e-30);  C: of columns   (arXiv 1804.04235,
                  u = g / sqrt(R C / sum R);  x -= a (u / max(1, rms(u)) + w x)                  algorithms 4 and 5)
                  relative to the vectors, the rate is a max(1e-3, rms(x))
    prodigy       m = b1 m + (1 - b1) d g;  v = b2 v + (1 - b2) d^2 g^2                         (arXiv 2306.06101,
                  r = b3 r + (1 - b3) a d^2 <g, x0 - x>;  s = b3 s + (1 - b3) a d^2 g            algorithm 4)
                  x -= a d (m / (sqrt(v) + d e) + w x);  d = max(d, k r / |s|_1),  b3 = sqrt(b2)
    dadapt_adam   m = b1 m + (1 - b1) a d g;  v = b2 v + (1 - b2) g^2                           (arXiv 2301.07733,
                  r = b3 r + (1 - b3) a d <g, s / (sqrt(v) + e)>;  s = b3 s + (1 - b3) a d g     Adam's variant)
                  x -= m / (sqrt(v) + e) + a d w x;  d = max(d, r / ((1 - b3) |s|_1))
"""

from collections.abc import Sequence
from typing import Any

import paddle
from paddle import Tensor

_SMALLEST_SQUARE, _SMALLEST_SIZE, _LARGEST_UPDATE, _FORGETTING = 1e-30, 1e-3, 1.0, -0.8  # of Adafactor's paper


class PublishedOptimizer(paddle.optimizer.Optimizer):
    """What is common: where the state lies, and the step of one parameter.

    Args:
        schedule: the learning rate, from `optimizer.make_schedule`.
        parameters: the vectors, float32 [N, D] each.
        weight_decay: how much a step of size 1 shrinks the vectors.
        grad_clip: Paddle's clipping, or None.
    """

    def __init__(self, schedule: Any, parameters: Sequence[Tensor], weight_decay: float, grad_clip: Any = None):
        super().__init__(learning_rate=schedule, parameters=list(parameters), grad_clip=grad_clip)
        self._decay = weight_decay

    def _initial_state(self, vectors: Tensor) -> dict[str, Tensor]:
        """Name -> what is remembered before the first step."""
        raise NotImplementedError

    def _after_step(
        self, vectors: Tensor, gradient: Tensor, rate: float, state: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The vectors and the state after a step."""
        raise NotImplementedError

    @paddle.no_grad()
    def _create_accumulators(self, block: Any, parameters: Sequence[Tensor]) -> None:
        for vectors in parameters:
            if vectors.name not in self._already_create_accumulator:
                for name, tensor in self._initial_state(vectors).items():
                    tensor.name = f"{vectors.name}_{name}_0"
                    self._accumulators[name][vectors.name] = tensor
                self._already_create_accumulator.add(vectors.name)

    @paddle.no_grad()
    def _append_optimize_op(self, block: Any, param_and_grad: tuple[Tensor, Tensor]) -> None:
        vectors, gradient = param_and_grad
        kept = {name: tensors[vectors.name] for name, tensors in self._accumulators.items()}
        moved, state = self._after_step(vectors, gradient, self.get_lr(), kept)
        for name, tensor in state.items():
            paddle.assign(tensor, output=kept[name])
        paddle.assign(moved, output=vectors)


class Lion(PublishedOptimizer):
    """Steps of one size for every number, in the direction of a momentum's sign."""

    def __init__(self, *common: Any, beta1: float, beta2: float):
        super().__init__(*common)
        self._beta1, self._beta2 = beta1, beta2

    def _initial_state(self, vectors: Tensor) -> dict[str, Tensor]:
        return {"momentum": paddle.zeros_like(vectors)}

    def _after_step(self, vectors, gradient, rate, state):
        direction = paddle.sign(_mixed(state["momentum"], gradient, self._beta1))
        moved = vectors * (1 - rate * self._decay) - rate * direction
        return moved, {"momentum": _mixed(state["momentum"], gradient, self._beta2)}


class Adafactor(PublishedOptimizer):
    """Adam's second moment from sums of rows and columns, clipped updates, no momentum.

    Args:
        scale_parameter: the rate is relative to the root mean square of the vectors.
    """

    def __init__(self, *common: Any, scale_parameter: bool):
        super().__init__(*common)
        self._scale_parameter = scale_parameter

    def _initial_state(self, vectors: Tensor) -> dict[str, Tensor]:
        rows, columns = _as_matrix(vectors).shape
        return {"row_sums": paddle.zeros([rows, 1]), "column_sums": paddle.zeros([1, columns]),
                "steps": paddle.zeros([1])}  # fmt: skip

    def _after_step(self, vectors, gradient, rate, state):
        steps = state["steps"] + 1
        kept = 1 - steps**_FORGETTING
        squares = _as_matrix(gradient).square() + _SMALLEST_SQUARE  # (N, D)
        row_sums = kept * state["row_sums"] + (1 - kept) * squares.sum(axis=1, keepdim=True)
        column_sums = kept * state["column_sums"] + (1 - kept) * squares.sum(axis=0, keepdim=True)
        moment = (row_sums / row_sums.sum()) * column_sums
        update = gradient / moment.sqrt().reshape(gradient.shape)
        update = update / (_root_mean_square(update) / _LARGEST_UPDATE).clip(min=1.0)
        if self._scale_parameter:
            rate = rate * _root_mean_square(vectors).clip(min=_SMALLEST_SIZE)
        moved = vectors * (1 - rate * self._decay) - rate * update
        return moved, {"row_sums": row_sums, "column_sums": column_sums, "steps": steps}


class Prodigy(PublishedOptimizer):
    """Adam whose rate is an estimate d of how far the vectors have to go; it only grows.

    Args:
        d0: the estimate before the first step.
        d_coef: multiplies what is estimated.
    """

    def __init__(self, *common: Any, beta1: float, beta2: float, epsilon: float, d0: float, d_coef: float):
        super().__init__(*common)
        self._beta1, self._beta2, self._epsilon, self._d0, self._d_coef = beta1, beta2, epsilon, d0, d_coef

    def _initial_state(self, vectors: Tensor) -> dict[str, Tensor]:
        state = {name: paddle.zeros_like(vectors) for name in ("scaled_moment1", "scaled_moment2", "scaled_gradients")}
        return state | {"start": vectors.clone(), "progress": paddle.zeros([1]), "distance": paddle.full([1], self._d0)}

    def _after_step(self, vectors, gradient, rate, state):
        d, beta3 = state["distance"], self._beta2**0.5
        moment1 = _mixed(state["scaled_moment1"], d * gradient, self._beta1)
        moment2 = _mixed(state["scaled_moment2"], (d * gradient).square(), self._beta2)
        towards_start = (gradient * (state["start"] - vectors)).sum()
        progress = _mixed(state["progress"], rate * d.square() * towards_start, beta3)
        gradients = _mixed(state["scaled_gradients"], rate * d.square() * gradient, beta3)
        size = rate * d
        moved = vectors * (1 - size * self._decay) - size * moment1 / (moment2.sqrt() + d * self._epsilon)
        return moved, {
            "scaled_moment1": moment1, "scaled_moment2": moment2, "scaled_gradients": gradients, "progress": progress,
            "distance": _larger(d, self._d_coef * progress, gradients.abs().sum()),
        }  # fmt: skip


class DAdaptAdam(PublishedOptimizer):
    """Adam whose rate is an estimate d of how far the vectors have to go, from the sum of weighted gradients.

    Args:
        d0: the estimate before the first step.
    """

    def __init__(self, *common: Any, beta1: float, beta2: float, epsilon: float, d0: float):
        super().__init__(*common)
        self._beta1, self._beta2, self._epsilon, self._d0 = beta1, beta2, epsilon, d0

    def _initial_state(self, vectors: Tensor) -> dict[str, Tensor]:
        state = {name: paddle.zeros_like(vectors) for name in ("rated_moment1", "plain_moment2", "rated_gradients")}
        return state | {"weighted_progress": paddle.zeros([1]), "distance": paddle.full([1], self._d0)}

    def _after_step(self, vectors, gradient, rate, state):
        d, beta3 = state["distance"], self._beta2**0.5
        size = rate * d
        moment1 = _mixed(state["rated_moment1"], size * gradient, self._beta1)
        moment2 = _mixed(state["plain_moment2"], gradient.square(), self._beta2)
        scale = moment2.sqrt() + self._epsilon
        along = (gradient * state["rated_gradients"] / scale).sum()
        progress = _mixed(state["weighted_progress"], size * along, beta3)
        gradients = _mixed(state["rated_gradients"], size * gradient, beta3)
        moved = vectors * (1 - size * self._decay) - moment1 / scale
        return moved, {
            "rated_moment1": moment1, "plain_moment2": moment2, "rated_gradients": gradients,
            "weighted_progress": progress,
            "distance": _larger(d, progress, (1 - beta3) * gradients.abs().sum()),
        }  # fmt: skip


def _mixed(old: Tensor, new: Tensor, decay: float) -> Tensor:
    """A mean that forgets: decay x old + (1 - decay) x new."""
    return decay * old + (1 - decay) * new


def _larger(distance: Tensor, above: Tensor, below: Tensor) -> Tensor:
    """The larger of a distance and of a quotient, which counts only where its divisor is positive."""
    is_known = below > 0
    quotient = above / paddle.where(is_known, below, paddle.ones_like(below))
    return paddle.where(is_known, paddle.maximum(distance, quotient), distance)


def _as_matrix(tensor: Tensor) -> Tensor:
    """[N, D] of [N, D] or [D]."""
    return tensor.reshape([-1, tensor.shape[-1]])


def _root_mean_square(tensor: Tensor) -> Tensor:
    return tensor.square().mean().sqrt()
