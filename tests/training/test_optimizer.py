"""Optimizers of the vectors equal their formulas; schedules count optimizer steps; vectors without a sample rest."""

import numpy as np
import paddle
import pytest

from helpers.configs import config_of
from helpers.parameters import optimizer_of, parameter
from textual_inversion.settings.choices import OPTIMIZERS
from textual_inversion.settings.rates import Stage
from textual_inversion.training.optimizer import make_schedule, optimizer_state, restore_optimizer, step_optimizer

# --------------------------------------------------------------------------------------------------------- schedules


def rates(**changes):
    optimizer, schedule = optimizer_of([parameter([1.0])], **changes)
    found = []
    for _ in range(10):
        found.append(optimizer.get_lr())
        schedule.step()
    return found


AFTER_WARM_UP = {
    "constant_with_warmup": lambda p: 1.0,
    "linear": lambda p: 1 - p,
    "cosine": lambda p: (1 + np.cos(np.pi * p)) / 2,
    "cosine_with_restarts": lambda p: (1 + np.cos(np.pi * (3 * p % 1))) / 2,
    "polynomial": lambda p: (1 - 1e-6) * (1 - p) ** 2.5 + 1e-6,
}


@pytest.mark.parametrize("warm_up", [0, 4])
@pytest.mark.parametrize("name", AFTER_WARM_UP)
def test_schedules_are_their_formulas_over_optimizer_steps(name, warm_up):
    expected = [
        step / warm_up if step < warm_up else AFTER_WARM_UP[name]((step - warm_up) / (10 - warm_up))
        for step in range(10)
    ]

    found = rates(lr_scheduler=name, lr_warmup_steps=warm_up, lr_power=2.5, lr_num_cycles=3)

    assert found == pytest.approx([0.1 * share for share in expected], abs=1e-8)


def test_constant_ignores_the_warm_up():
    assert rates(lr_warmup_steps=5) == pytest.approx([0.1] * 10)


def test_several_rates_each_hold_up_to_their_step():
    schedule = make_schedule(config_of().training, 10, 0.5, (Stage(0.2, 3), Stage(0.5, 7), Stage(0.01)))
    found = []
    for _ in range(10):
        found.append(schedule.get_lr())
        schedule.step()
    schedule.step(6)  # as a resumed run does

    assert found == [0.2] * 3 + [0.5] * 4 + [0.01] * 3
    assert schedule.get_lr() == 0.5


# -------------------------------------------------------------------------------------------------------- optimizers


def trained(gradients, **changes):
    """Vectors [1, -2] after steps with these gradients."""
    vectors = parameter([1.0, -2.0])
    optimizer, _ = optimizer_of([vectors], **changes)
    for gradient in gradients:
        (vectors * paddle.to_tensor(gradient)).sum().backward()
        step_optimizer(optimizer, [vectors], [vectors])
    return vectors.numpy()


def adam_written_out(gradients, *, coupled, decoupled, lr=0.1, beta1=0.9, beta2=0.999, epsilon=1e-8):
    p, m, v = np.array([1.0, -2.0]), 0.0, 0.0
    for step, gradient in enumerate(gradients, 1):
        g = np.array(gradient) + coupled * p
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        p = p * (1 - lr * decoupled)
        p = p - lr * (m / (1 - beta1**step)) / (np.sqrt(v / (1 - beta2**step)) + epsilon)
    return p


GRADIENTS = [[3.0, 4.0], [-1.0, 0.5], [0.1, 2.0]]


@pytest.mark.parametrize(("name", "kind"), [("adamw", "decoupled"), ("adam", "coupled")])
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_adam_and_adamw_are_their_formulas(name, kind, decay):
    expected = adam_written_out(GRADIENTS, **{"coupled": 0.0, "decoupled": 0.0} | {kind: decay})

    np.testing.assert_allclose(trained(GRADIENTS, optimizer=name, adam_weight_decay=decay), expected, atol=1e-5)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_its_formula(momentum):
    p, velocity = np.array([1.0, -2.0]), 0.0
    for gradient in GRADIENTS:
        velocity = momentum * velocity + np.array(gradient) + 0.5 * p
        p = p - 0.1 * velocity

    found = trained(GRADIENTS, optimizer="sgd", sgd_momentum=momentum, adam_weight_decay=0.5)

    np.testing.assert_allclose(found, p, atol=1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_gradient_is_clipped_to_the_norm_that_is_asked_for(name):
    # With so large an epsilon the size of Adam's step tells the gradient's. Where it doesn't, the next step does.
    flags = dict(optimizer=name, adam_epsilon=1.0, d0=0.1)

    found = trained([[30.0, 40.0], [0.1, -0.2]], max_grad_norm=1.0, **flags)

    np.testing.assert_allclose(found, trained([[0.6, 0.8], [0.1, -0.2]], **flags), atol=1e-6)
    assert abs(found - trained([[30.0, 40.0], [0.1, -0.2]], **flags)).max() > 1e-3


# --------------------------------------------------------------------------------------------------- vectors that rest


def two_concepts(name, **changes):
    """Two parameters, and a function that makes a step in which the concepts named take part."""
    concepts = [parameter([1.0, 2.0]), parameter([3.0, 4.0])]
    optimizer, _ = optimizer_of(concepts, optimizer=name, adam_weight_decay=0.5, **changes)

    def step(*active):
        # As with vectors side by side in one table: a concept that is not shown has a gradient, of zeros.
        sum((concept * concept).sum() * float(number in active) for number, concept in enumerate(concepts)).backward()
        step_optimizer(optimizer, concepts, [concepts[number] for number in active])

    def state(number):
        moments = {k: v.numpy().copy() for k, v in optimizer.state_dict().items() if concepts[number].name in k}
        return {**moments, "vectors": concepts[number].numpy().copy()}

    return step, state


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("max_grad_norm", [-1.0, 1.0])
def test_a_concept_that_no_sample_shows_is_not_touched_at_all(name, max_grad_norm):
    step, state = two_concepts(name, max_grad_norm=max_grad_norm)
    step(0, 1)
    before, other = state(1), state(0)

    for _ in range(3):
        step(0)

    assert len(before) > 1  # its moments are looked at too
    for key, value in before.items():
        np.testing.assert_array_equal(state(1)[key], value, err_msg=key)
    assert (state(0)["vectors"] != other["vectors"]).all()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_concept_resumes_where_it_rested_as_if_nothing_had_happened(name):
    resting, alone = two_concepts(name), two_concepts(name)

    for active in ((0,), (0, 1), (0,), (1,)):  # the second concept's first step is not the run's first
        resting[0](*active)
    for active in ((1,), (1,)):
        alone[0](*active)

    for (key, one), other in zip(resting[1](1).items(), alone[1](1).values(), strict=True):
        np.testing.assert_array_equal(one, other, err_msg=key)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_clipping_measures_the_concepts_of_the_step_only(name):
    one, other = two_concepts(name, max_grad_norm=0.5), two_concepts(name, max_grad_norm=0.5)
    one[0](0)
    other[0](0, 1)

    assert (one[1](1)["vectors"] == [3.0, 4.0]).all()
    if name == "sgd":  # Adam's first step has one size whatever the gradient's is
        assert np.abs(one[1](0)["vectors"] - other[1](0)["vectors"]).max() > 1e-3


def test_no_gradient_is_left_after_a_step():
    vectors = parameter([1.0])
    optimizer, _ = optimizer_of([vectors])
    (vectors * 2.0).sum().backward()

    step_optimizer(optimizer, [vectors], [vectors])

    assert vectors.grad is None


# ------------------------------------------------------------------------------------------------ state of an optimizer


def stepped(optimizer, parameters, steps, active):
    """Steps with the gradients 1, 2, …"""
    for step in steps:
        for one in parameters:
            (one * float(step + 1)).sum().backward()
        step_optimizer(optimizer, parameters, active)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_resumes_bit_for_bit_also_where_a_parameter_never_took_part(name):
    def fresh(values=([1.0, -2.0], [0.5])):
        parameters = [parameter(v) for v in values]
        return parameters, optimizer_of(parameters, optimizer=name)[0]

    whole, optimizer = fresh()
    stepped(optimizer, whole, range(3), whole[:1])
    state = optimizer_state(optimizer, {"a/0": whole[0], "b/0": whole[1]})
    half, other = fresh([p.numpy() for p in whole])
    restore_optimizer(other, {"a/0": half[0], "b/0": half[1]}, state)
    for parameters, o in ((whole, optimizer), (half, other)):
        stepped(o, parameters, range(3, 6), parameters)

    assert {key[:3] for key in state} == {"a/0"}
    assert [p.numpy().tobytes() for p in half] == [p.numpy().tobytes() for p in whole]


def test_an_optimizer_of_another_kind_takes_what_both_know():
    parameters = [parameter([1.0])]
    adam, _ = optimizer_of(parameters, optimizer="adam")
    stepped(adam, parameters, range(2), parameters)
    state = optimizer_state(adam, {"a": parameters[0]})

    adamw, sgd = (optimizer_of(parameters, optimizer=name)[0] for name in ("adamw", "sgd"))
    for optimizer in (adamw, sgd):
        restore_optimizer(optimizer, {"a": parameters[0]}, state)

    assert optimizer_state(adamw, {"a": parameters[0]}) == state
    assert optimizer_state(sgd, {"a": parameters[0]}) == {"a/velocity": np.zeros(1, "float32")}
