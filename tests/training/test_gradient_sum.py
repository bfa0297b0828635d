"""Sums that do not depend on how a batch is divided."""

from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from textual_inversion.distributed.ranks import Ranks
from textual_inversion.training import gradient_sum
from textual_inversion.training.gradient_sum import GradientSum, _grid, on_grid

rng = np.random.default_rng(0)


def micro_gradients(steps=6, count=8, shape=(3, 16)):
    """[steps, count, N, D]: values of very different sizes, whose noise is as large as they are."""
    sizes = 10.0 ** (rng.uniform(-2, 0, shape) + rng.uniform(-7, 0, (shape[0], 1)))
    return (sizes * rng.standard_normal((steps, count, *shape))).astype(np.float32)


def divided(gradients, processes):
    """The mean gradients of each step, float32 [steps, N, D], of so many processes, one after another."""
    accumulation = gradients.shape[1] // processes
    parameters = [paddle.create_parameter(list(gradients.shape[2:]), "float32") for _ in range(processes)]
    told = {}  # by rank 0
    ranks = [
        SimpleNamespace(
            world_size=processes, is_main=not index, broadcast=lambda value: told.setdefault("sizes", value)
        )
        for index in range(processes)
    ]
    sums = [GradientSum([r], rank, accumulation) for r, rank in zip(parameters, ranks, strict=True)]
    for parameter, sum_ in zip(parameters, sums, strict=True):
        sum_.begin(lambda p=parameter: (p * paddle.to_tensor(gradients[0, 0])).sum().backward())
        assert parameter.grad is None
    found = []
    for step in gradients:
        for index, (parameter, sum_) in enumerate(zip(parameters, sums, strict=True)):
            for gradient in step[index * accumulation : (index + 1) * accumulation]:
                (parameter * paddle.to_tensor(gradient)).sum().backward()
                sum_.collect()
            sum_.add_up()
        total = sum(parameter.grad for parameter in parameters) / gradients.shape[1]
        for parameter, rank, sum_ in zip(parameters, ranks, sums, strict=True):
            rank.mean_gradients = lambda ps, stop, parts: [setattr(p, "grad", total) for p in ps]  # noqa: B023
            sum_.exchange()
            parameter.clear_gradient(False)
        found.append(total.numpy())
    return np.stack(found)


def test_every_division_gives_the_same_bits():
    gradients = micro_gradients()

    alone = divided(gradients, 1)

    for processes in (2, 4, 8):
        np.testing.assert_array_equal(divided(gradients, processes), alone)
    plain = [sum(step[index] for index in order) for step in gradients for order in (range(8), reversed(range(8)))]
    assert any((a != b).any() for a, b in zip(plain[::2], plain[1::2], strict=True))  # plain sums do differ
    exact = gradients.astype(np.float64).mean(axis=1)
    largest = np.abs(gradients).max(axis=(0, 1))
    assert (np.abs(alone - exact) <= 2.0**-11 * np.maximum(largest, largest.mean(axis=-1, keepdims=True))).all()


def test_vectors_whose_turn_comes_later_and_seldom_give_the_same_bits_too():
    sizes = 10.0 ** rng.uniform(-1, 0, (3, 16))
    gradients = (sizes * rng.standard_normal((100, 8, 3, 16))).astype(np.float32)
    gradients[:2, :, 1] = gradients[3:99, :, 1] = 0  # shown in two steps

    alone = divided(gradients, 1)

    np.testing.assert_array_equal(divided(gradients, 4), alone)
    np.testing.assert_allclose(alone, gradients.mean(axis=1), rtol=0, atol=2e-3)


def test_one_micro_batch_is_left_as_it_is():
    parameter = paddle.create_parameter([1, 2], "float32")
    (parameter * paddle.to_tensor([[1.2345678, 3e-20]])).sum().backward()
    sum_ = GradientSum([parameter], Ranks(), 1)

    sum_.begin(None)  # nothing is asked for
    sum_.collect()
    sum_.add_up()
    sum_.exchange()

    np.testing.assert_array_equal(parameter.grad.numpy(), np.float32([[1.2345678, 3e-20]]))
    assert sum_.state() == {}


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("when", [0, 1])
def test_what_is_not_finite_shows_and_leaves_no_trace(odd, when):
    gradients = micro_gradients(steps=3, count=2, shape=(1, 4))
    gradients[when, 1, 0, 2] = odd

    found = divided(gradients, 1)

    assert not np.isfinite(found[when, 0, 2])
    assert np.isfinite(np.delete(found.reshape(3, 4), when, axis=0)).all()
    np.testing.assert_allclose(found[2], gradients[2].mean(axis=0), rtol=1e-3, atol=1e-4 * np.abs(gradients[2]).max())


def test_a_gradient_that_is_suddenly_large_is_a_sum_like_any_other():
    gradients = micro_gradients(steps=3, count=4, shape=(1, 8))
    gradients[2] *= 1e6

    np.testing.assert_allclose(divided(gradients, 1)[2], gradients[2].mean(axis=0), rtol=1e-4, atol=0)


def test_the_grid_is_a_power_of_two_and_zero_for_what_has_no_gradient():
    sizes = np.float32([1.0, 1.5, 3e-12, 7e20, 0.0])
    grid = np.concatenate([_grid(paddle.to_tensor(size.reshape(1, 1)), 4).numpy()[0] for size in sizes])

    mantissa = np.frexp(grid)[0]
    assert set(mantissa[:4]) == {0.75} and grid[4] == 0
    steps = np.spacing(grid[:4])
    rounded = on_grid(paddle.to_tensor(0.3 * sizes[:4]), paddle.to_tensor(grid[:4])).numpy()
    assert (rounded % steps == 0).all() and (np.abs(rounded - 0.3 * sizes[:4]) <= steps).all()
    assert (steps <= 2.0**-12 * sizes[:4]).all()


def test_a_resumed_sum_keeps_the_same_grids():
    gradients = micro_gradients(count=2)
    parameter = paddle.create_parameter([3, 16], "float32")

    def step(sum_, both):
        for gradient in both:
            (parameter * paddle.to_tensor(gradient)).sum().backward()
            sum_.collect()
        sum_.add_up()
        sum_.exchange()
        result = parameter.grad.numpy()
        parameter.clear_gradient(False)
        return result

    def probe():
        (parameter * paddle.to_tensor(gradients[0, 0])).sum().backward()

    first = GradientSum([parameter], Ranks(), 2)
    first.begin(probe)
    for both in gradients[:3]:
        step(first, both)
    second = GradientSum([parameter], Ranks(), 2)
    second.restore({name: tensor.numpy() for name, tensor in first.state().items()})
    second.begin(None)  # it knows

    for both in gradients[3:]:
        np.testing.assert_array_equal(step(first, both), step(second, both))


@pytest.mark.parametrize("concepts", [1, 40])
def test_each_micro_batch_is_added_at_once_and_in_one_operation_for_all_concepts(concepts, monkeypatch):
    rounded = []
    monkeypatch.setattr(gradient_sum, "on_grid", lambda *args: rounded.append(args) or on_grid(*args))
    parameters = [paddle.create_parameter([2, 4], "float32") for _ in range(concepts)]
    sum_ = GradientSum(parameters, Ranks(), 16)

    def backward():
        sum((p * float(number + 1)).sum() for number, p in enumerate(parameters)).backward()

    sum_.begin(backward)
    for micro_batch in range(16):
        backward()
        sum_.collect()
        assert len(rounded) == micro_batch + 1 and all(p.grad is None for p in parameters)
    sum_.add_up()

    assert len(rounded) == 16
    for number, parameter in enumerate(parameters):
        np.testing.assert_allclose(parameter.grad.numpy(), 16 * (number + 1), rtol=2.0**-9)


def test_a_parameter_without_a_gradient_gets_none_beside_others_and_another_width():
    parameters = [paddle.create_parameter(shape, "float32") for shape in ([1, 4], [2, 4], [1, 3])]
    sum_ = GradientSum(parameters, Ranks(), 2)

    sum_.begin(lambda: (parameters[0].sum() + parameters[2].sum()).backward())
    for _ in range(2):
        (2 * parameters[0].sum() + parameters[2].sum()).backward()
        sum_.collect()
    sum_.add_up()
    sum_.exchange()

    assert parameters[1].grad is None
    assert (parameters[0].grad.numpy() == 2).all() and (parameters[2].grad.numpy() == 1).all()
    assert {name: tuple(size.shape) for name, size in sum_.state().items()} == {
        "size_0": (1, 4), "size_1": (2, 4), "size_2": (1, 3)
    }  # fmt: skip
