"""Optimizers that Paddle does not have equal the formulas of their papers, written out in NumPy."""

import re

import numpy as np
import paddle
import pytest

from helpers.parameters import optimizer_of
from helpers.training_runs import short_run
from textual_inversion.training import checkpoints
from textual_inversion.training.optimizer import estimated_distance, optimizer_state, step_optimizer
from train_textual_inversion import main

RATE = 0.1  # of `optimizer_of`, constant
START = np.array([[1.0, -2.0, 0.5], [0.3, 0.0, -0.7]])
GRADIENTS = np.random.default_rng(5).standard_normal((12, *START.shape))
BETA1, BETA2, EPSILON = 0.8, 0.95, 1e-3


def matrix(values):
    assign = paddle.nn.initializer.Assign(np.asarray(values, "float32"))
    return paddle.create_parameter(list(np.shape(values)), "float32", default_initializer=assign)


def trained(name, *, start=START, gradients=GRADIENTS, rate=RATE, **flags):
    """(vectors, state) after steps with these gradients."""
    vectors = matrix(start)
    betas = dict(adam_beta1=BETA1, adam_beta2=BETA2, adam_epsilon=EPSILON)
    optimizer, _ = optimizer_of([vectors], optimizer=name, peak_learning_rate=rate, **betas | flags)
    for gradient in gradients:
        (vectors * paddle.to_tensor(np.asarray(gradient, "float32"))).sum().backward()
        step_optimizer(optimizer, [vectors], [vectors])
    return vectors.numpy(), optimizer_state(optimizer, {"a": vectors})


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_lion_is_its_formula(decay):
    x, m = START, 0.0
    for g in GRADIENTS:
        c = BETA1 * m + (1 - BETA1) * g
        x = x - RATE * (np.sign(c) + decay * x)
        m = BETA2 * m + (1 - BETA2) * g

    np.testing.assert_allclose(trained("lion", adam_weight_decay=decay)[0], x, atol=1e-5)


@pytest.mark.parametrize("decay", [0.0, 0.5])
@pytest.mark.parametrize("is_relative", [False, True])
@pytest.mark.parametrize("start", [START, START[:1], 1e-5 * START])
def test_adafactor_is_its_formula(start, is_relative, decay):
    gradients = GRADIENTS[:, : len(start)]
    x, rows, columns = start, np.zeros(len(start)), np.zeros(3)
    for t, g in enumerate(gradients, 1):
        kept = 1 - t**-0.8
        rows = kept * rows + (1 - kept) * (g**2 + 1e-30) @ np.ones(3)
        columns = kept * columns + (1 - kept) * np.ones(len(start)) @ (g**2 + 1e-30)
        update = g / np.sqrt(np.outer(rows, columns) / rows.sum())
        update = update / max(1.0, np.sqrt((update**2).mean()))
        rate = RATE * max(1e-3, np.sqrt((x**2).mean())) if is_relative else RATE
        x = x - rate * (update + decay * x)

    flags = dict(adafactor_scale_parameter=is_relative, adam_weight_decay=decay)
    np.testing.assert_allclose(trained("adafactor", start=start, gradients=gradients, **flags)[0], x, atol=1e-5)


def prodigy(start, gradients, *, d, k, decay, rate):
    x, m, v, r, s, b3 = start, 0.0, 0.0, 0.0, 0.0, np.sqrt(BETA2)
    for g in gradients:
        m = BETA1 * m + (1 - BETA1) * d * g
        v = BETA2 * v + (1 - BETA2) * d**2 * g**2
        r = b3 * r + (1 - b3) * rate * d**2 * (g * (start - x)).sum()
        s = b3 * s + (1 - b3) * rate * d**2 * g
        x = x - rate * d * (m / (np.sqrt(v) + d * EPSILON) + decay * x)
        d = max(d, k * r / np.abs(s).sum())
    return x, d


def dadapt_adam(start, gradients, *, d, decay, rate):
    x, m, v, r, s, b3 = start, 0.0, 0.0, 0.0, np.zeros_like(start), np.sqrt(BETA2)
    for g in gradients:
        m = BETA1 * m + (1 - BETA1) * d * rate * g
        v = BETA2 * v + (1 - BETA2) * g**2
        scale = np.sqrt(v) + EPSILON
        r = b3 * r + (1 - b3) * rate * d * (g * s / scale).sum()
        s = b3 * s + (1 - b3) * rate * d * g
        x = x - m / scale - rate * d * decay * x
        d = max(d, r / ((1 - b3) * np.abs(s).sum()))
    return x, d


SAME_WAY = np.abs(GRADIENTS)  # gradients that agree, so that the estimate grows


@pytest.mark.parametrize("decay", [0.0, 0.5])
@pytest.mark.parametrize("rate", [1.0, 0.5])
@pytest.mark.parametrize("k", [1.0, 2.0])
def test_prodigy_is_its_formula(k, rate, decay):
    expected, distance = prodigy(START, SAME_WAY, d=1e-3, k=k, decay=decay, rate=rate)

    found, state = trained("prodigy", gradients=SAME_WAY, rate=rate, d0=1e-3, d_coef=k, adam_weight_decay=decay)

    assert distance > 2e-3  # it has grown
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert state["a/distance"] == pytest.approx(distance, rel=1e-4)


@pytest.mark.parametrize("decay", [0.0, 0.5])
@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_dadapt_adam_is_its_formula(rate, decay):
    expected, distance = dadapt_adam(START, SAME_WAY, d=1e-3, decay=decay, rate=rate)

    found, state = trained("dadapt_adam", gradients=SAME_WAY, rate=rate, d0=1e-3, adam_weight_decay=decay)

    assert distance > 2e-3
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert state["a/distance"] == pytest.approx(distance, rel=1e-4)


@pytest.mark.parametrize("name", ["prodigy", "dadapt_adam"])
def test_an_estimate_never_falls_and_survives_a_step_without_rate_or_gradient(name):
    against = [*SAME_WAY[:6], *-10 * SAME_WAY[:3]]
    seen = [trained(name, gradients=against[:n], rate=1.0, d0=1e-3)[1]["a/distance"].item() for n in range(1, 10)]
    still, state = trained(name, gradients=np.zeros((2, *START.shape)), rate=1.0)
    _, warming = trained(name, rate=0.0, gradients=GRADIENTS[:2])

    assert seen == sorted(seen) and seen[-1] > seen[0]
    np.testing.assert_array_equal(still, START.astype("float32"))
    assert state["a/distance"].item() == warming["a/distance"].item() == pytest.approx(1e-6)


@pytest.mark.parametrize("name", ["prodigy", "dadapt_adam"])
def test_an_estimate_finds_a_rate_by_itself(name):
    """The minimum of |x - 3| is 3 away, and the estimate begins a million times too small."""
    vectors = matrix([[0.0]])
    optimizer, _ = optimizer_of([vectors], optimizer=name, peak_learning_rate=1.0)
    for _ in range(60):
        (vectors - 3.0).abs().sum().backward()
        step_optimizer(optimizer, [vectors], [vectors])

    assert 0.3 < optimizer_state(optimizer, {"a": vectors})["a/distance"].item() < 30
    assert vectors.item() > 1.5
    assert estimated_distance(optimizer) == optimizer_state(optimizer, {"a": vectors})["a/distance"].item()


def test_others_estimate_nothing():
    for name in ("adamw", "lion"):
        vectors = matrix(START)
        optimizer, _ = optimizer_of([vectors], optimizer=name)
        vectors.sum().backward()
        step_optimizer(optimizer, [vectors], [vectors])
        assert estimated_distance(optimizer) is None


@pytest.mark.parametrize("name", ["lion", "adafactor", "prodigy", "dadapt_adam"])
def test_a_resting_parameter_changes_nothing_for_another_one(name):
    """Distance and size are those of one parameter."""
    alone, _ = trained(name, gradients=SAME_WAY, d0=1e-2)
    one, other = matrix(START), matrix(100 * START[:1])
    betas = dict(adam_beta1=BETA1, adam_beta2=BETA2, adam_epsilon=EPSILON)
    optimizer, _ = optimizer_of([one, other], optimizer=name, d0=1e-2, **betas)
    for number, gradient in enumerate(SAME_WAY):
        (one * paddle.to_tensor(gradient.astype("float32"))).sum().backward()
        (other * float(number)).sum().backward()
        step_optimizer(optimizer, [one, other], [one, other][: 1 + number % 2])

    np.testing.assert_array_equal(one.numpy(), alone)


@pytest.mark.slow
def test_a_run_shows_what_its_optimizer_estimates(tmp_path, capsys):
    from visualdl import LogReader

    flags = ["--optimizer", "prodigy", "--d0", "0.25", "--only_save_embeds", "--report_to", "visualdl"]
    main(short_run(tmp_path, *flags))

    kept = checkpoints.read(tmp_path / "out" / "checkpoint-2").tensors["optimizer/text_encoder/0/distance"].item()
    (log,) = (tmp_path / "out" / "logs").iterdir()
    shown = [one.value for one in LogReader(file_path=str(log)).get_data("scalar", "train/estimated_distance")]
    assert shown[-1] == pytest.approx(kept) and kept >= 0.25
    (line,) = re.findall(r"step 2/2 .*", capsys.readouterr().err)
    assert re.search(r" d (\S+)", line)[1] == f"{kept:.4f}"
