"""The loss scale follows the guard without asking the device, and changes no digit of a gradient."""

import numpy as np
import paddle
import pytest

from helpers.parameters import assert_same, optimizer_of, parameter
from textual_inversion.settings.choices import OPTIMIZERS
from textual_inversion.training.loss_scale import LossScale
from textual_inversion.training.step_guard import StepGuard

GOOD, BAD = True, False


def scales(flags, **options):
    scale, seen = LossScale(**options), []
    for flag in flags:
        scale.follow(paddle.to_tensor(flag))
        seen.append(float(scale.scaled(paddle.to_tensor(1.0))))
    return seen


def test_it_doubles_after_so_many_good_steps_in_a_row_and_halves_at_once():
    flags = [GOOD, GOOD, GOOD, GOOD, BAD, GOOD, BAD, GOOD, GOOD, GOOD]

    assert scales(flags, first=8.0, patience=3) == [8, 8, 16, 16, 8, 8, 4, 4, 4, 8]


def test_it_stays_within_its_bounds():
    assert scales([BAD] * 4, first=4.0) == [2, 1, 1, 1]
    assert scales([GOOD] * 4, first=2.0**22, patience=1) == [2**23, 2**24, 2**24, 2**24]


def test_it_resumes_from_what_was_kept():
    flags = [GOOD, GOOD, BAD, GOOD, GOOD, GOOD, GOOD, BAD]
    expected = scales(flags, first=8.0, patience=3)
    first, seen = LossScale(first=8.0, patience=3), []
    for flag in flags[:5]:
        first.follow(paddle.to_tensor(flag))
    second = LossScale(patience=3)
    second.restore({name: tensor.numpy() for name, tensor in first.state().items()})

    for flag in flags[5:]:
        second.follow(paddle.to_tensor(flag))
        seen.append(float(second.scaled(paddle.to_tensor(1.0))))

    assert seen == expected[5:]


def test_where_it_is_off_nothing_is_computed():
    scale = LossScale(enabled=False)
    loss, vector = paddle.to_tensor(0.5), parameter([1.0])
    vector.grad = paddle.to_tensor([3.0])

    scale.unscale([vector])
    scale.follow(paddle.to_tensor(BAD))

    assert scale.scaled(loss) is loss and scale.state() == {}
    assert vector.grad.tolist() == [3.0]


class Training:
    """A vector that learns from given gradients in float16's way: what leaves its range is infinite."""

    def __init__(self, name, scale, **changes):
        self.vector, self.scale = parameter([1.0, -2.0]), scale
        changes = {"adam_weight_decay": 0.1, "peak_learning_rate": 0.1} | changes
        self.optimizer, _ = optimizer_of([self.vector], optimizer=name, **changes)
        self.guard = StepGuard(self.optimizer, [self.vector], 50, self.scale)

    def step(self, gradient):
        loss = (self.vector * paddle.to_tensor(gradient)).sum()
        self.scale.scaled(loss).backward()
        half = self.vector.grad.astype("float16").astype("float32")
        paddle.assign(half, output=self.vector.grad)
        self.guard.spoil(loss.detach())
        self.guard.step([self.vector])


@pytest.mark.parametrize("max_grad_norm", [-1.0, 0.5])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_clipping_and_steps_see_the_true_gradient(name, max_grad_norm):
    gradients = [[3.0, 4.0], [-1.0, 0.5], [0.125, 2.0]]  # which float16 holds exactly
    plain, scaled = (
        Training(name, scale, max_grad_norm=max_grad_norm)
        for scale in (LossScale(enabled=False), LossScale(first=1024.0))
    )

    for gradient in gradients:
        plain.step(gradient)
        scaled.step(gradient)

    assert_same([scaled.vector.numpy()], [plain.vector.numpy()])
    assert scaled.guard.gradient_norms() == plain.guard.gradient_norms()


def test_an_overflow_is_skipped_until_the_scale_fits():
    training = Training("sgd", LossScale(first=2.0**16), adam_weight_decay=0.0)

    for _ in range(6):
        training.step([3.0, 1.0])  # 3 x 2**15 is beyond float16

    training.guard.look()
    assert training.guard.skipped == 2 and training.guard.in_a_row == 0
    assert float(training.scale.state()["scale"]) == 2.0**14


@pytest.mark.parametrize("scaled", [False, True])
def test_a_small_gradient_keeps_its_digits(scaled):
    vector, scale = parameter([1.0]), LossScale(enabled=scaled, first=2.0**14)

    scale.scaled((vector * paddle.to_tensor([1e-7])).sum()).backward()
    paddle.assign(vector.grad.astype("float16").astype("float32"), output=vector.grad)
    scale.unscale([vector])

    error = abs(float(vector.grad.sum()) / 1e-7 - 1)
    assert error < 2**-11 if scaled else error > 0.1


def test_the_processor_does_not_wait_for_the_device(monkeypatch):
    training = Training("adamw", LossScale(first=4.0, patience=2))
    training.step([1.0, 1.0])
    reads = []
    for name in ("numpy", "item", "tolist", "__bool__", "__float__", "__int__", "__array__"):
        monkeypatch.setattr(paddle.Tensor, name, lambda self, *a, _n=name, **k: reads.append(_n))

    for gradient in ([1.0, 2.0], [np.inf, 1.0], [1.0, 1.0], [2.0, 1.0]):
        training.step(gradient)

    assert reads == []
