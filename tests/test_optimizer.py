"""AdamW on the rows; schedules count optimizer steps."""

from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from textual_inversion.optimizer import make_optimizer


def settings(**changes):
    usual = dict(
        lr_scheduler="constant",
        peak_learning_rate=0.1,
        lr_warmup_steps=0,
        max_train_steps=10,
        lr_num_cycles=1,
        lr_power=1.0,
        max_grad_norm=-1.0,
        adam_beta1=0.9,
        adam_beta2=0.999,
        adam_epsilon=1e-8,
        adam_weight_decay=0.0,
    )
    return SimpleNamespace(**usual | changes)


def parameter(values):
    return paddle.create_parameter(
        [len(values)], "float32", default_initializer=paddle.nn.initializer.Assign(np.array(values, dtype="float32"))
    )


def rates(**changes):
    optimizer, schedule = make_optimizer(settings(**changes), [parameter([1.0])])
    found = []
    for _ in range(10):
        found.append(optimizer.get_lr())
        schedule.step()
    return found


def test_constant_ignores_the_warm_up_and_constant_with_warmup_has_it():
    assert rates(lr_warmup_steps=5) == pytest.approx([0.1] * 10)
    assert rates(lr_scheduler="constant_with_warmup", lr_warmup_steps=5) == pytest.approx(
        [0, 0.02, 0.04, 0.06, 0.08] + [0.1] * 5
    )


def test_linear_reaches_its_end_with_the_last_optimizer_step():
    assert rates(lr_scheduler="linear") == pytest.approx([0.1 * (10 - step) / 10 for step in range(10)])


def test_cosine_is_half_a_wave():
    expected = [0.05 * (1 + np.cos(np.pi * step / 10)) for step in range(10)]

    assert rates(lr_scheduler="cosine") == pytest.approx(expected, abs=1e-7)


def test_one_step_is_adamws_formula():
    rows = parameter([1.0, -2.0])
    optimizer, _ = make_optimizer(settings(adam_weight_decay=0.5), [rows])

    (rows * paddle.to_tensor([3.0, 4.0])).sum().backward()
    optimizer.step()

    # With one gradient the moments' ratio is its sign; decay is decoupled: p (1 - lr * decay) - lr * sign.
    np.testing.assert_allclose(rows.numpy(), [0.95 - 0.1, -1.9 - 0.1], atol=1e-6)


def test_the_gradient_is_clipped_to_the_norm_that_is_asked_for():
    rows = parameter([1.0, 1.0])
    # With so large an epsilon the step's size tells the gradient's.
    optimizer, _ = make_optimizer(settings(max_grad_norm=1.0, adam_epsilon=1.0), [rows])

    (rows * paddle.to_tensor([30.0, 40.0])).sum().backward()
    optimizer.step()

    clipped = np.array([0.6, 0.8])
    np.testing.assert_allclose(rows.numpy(), 1 - 0.1 * clipped / (clipped + 1), atol=1e-5)
