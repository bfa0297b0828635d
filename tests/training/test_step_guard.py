"""A step that is not finite changes nothing, is counted, and ends the run when there are too many of them."""

import paddle
import pytest

from helpers.parameters import KEPT_TENSORS, assert_same, optimizer_of, parameter
from textual_inversion.settings.choices import OPTIMIZERS
from textual_inversion.training.optimizer import step_optimizer
from textual_inversion.training.step_guard import StepGuard

NAN, INFINITE = float("nan"), float("inf")
BAD = ([NAN, 1.0], [1.0, INFINITE], [-INFINITE, NAN], [1e30, 1.0])  # the square of the last one is no float32


class Training:
    """Two concepts that learn from given gradients, with a guard or without."""

    def __init__(self, name="adamw", *, most=20, guarded=True, **changes):
        self.concepts = [parameter([1.0, -2.0]), parameter([3.0, 4.0])]
        changes = {"adam_weight_decay": 0.1, "peak_learning_rate": 0.1} | changes
        self.optimizer, self.schedule = optimizer_of(self.concepts, optimizer=name, **changes)
        self.guard = StepGuard(self.optimizer, self.concepts, most) if guarded else None

    def step(self, gradient, active=(0, 1), loss=0.5):
        sum((concept * paddle.to_tensor(gradient)).sum() for concept in self.concepts).backward()
        active = [self.concepts[number] for number in active]
        if self.guard is None:
            step_optimizer(self.optimizer, self.concepts, active)
        else:
            self.guard.spoil(paddle.to_tensor(loss))
            self.guard.step(active)

    def state(self):
        """All that a next step depends on: vectors, moments or velocities, powers of beta."""
        kept = [value for value in self.optimizer.state_dict().values() if isinstance(value, paddle.Tensor)]
        return [tensor.numpy().copy() for tensor in [*self.concepts, *kept]]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("max_grad_norm", [-1.0, 1.0])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_that_is_not_finite_leaves_everything_as_it_was(name, max_grad_norm, bad):
    training = Training(name, max_grad_norm=max_grad_norm)
    for gradient in ([3.0, 4.0], [-1.0, 0.5]):
        training.step(gradient)
    before = training.state()

    training.step(bad)

    assert len(before) == 2 * (1 + KEPT_TENSORS[name])
    assert_same(training.state(), before)
    assert all(concept.grad is None for concept in training.concepts)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_with_skipped_steps_is_the_run_without_them_bit_for_bit(name):
    plain, guarded = Training(name, guarded=False), Training(name)
    good = [[3.0, 4.0], [-1.0, 0.5], [0.1, 2.0], [1e-3, -7.0]]
    for gradient in good:
        plain.step(gradient)

    for gradient in (BAD[0], BAD[1], good[0], BAD[2], good[1], good[2], BAD[3], BAD[0], good[3], BAD[0]):
        guarded.step(gradient)

    assert_same(guarded.state(), plain.state())
    guarded.guard.look()
    assert (guarded.guard.skipped, guarded.guard.in_a_row) == (6, 1)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_concept_whose_first_step_is_skipped_begins_with_its_next_one(name):
    plain, guarded = Training(name, guarded=False), Training(name)
    plain.step([3.0, 4.0], active=[0])
    plain.step([1.0, 1.0], active=[0, 1])

    guarded.step([3.0, 4.0], active=[0])
    guarded.step(BAD[0], active=[0, 1])
    guarded.step(BAD[0], active=[1])
    guarded.step([1.0, 1.0], active=[0, 1])

    assert_same(guarded.state(), plain.state())
    guarded.guard.look()
    assert guarded.guard.skipped == 2 and guarded.guard.active_steps == [3, 3]


@pytest.mark.parametrize("loss", [NAN, INFINITE, -INFINITE])
def test_a_loss_that_is_not_finite_skips_the_step_though_its_gradient_is(loss):
    training = Training()
    training.step([3.0, 4.0])
    before = training.state()

    training.step([3.0, 4.0], loss=loss)

    assert_same(training.state(), before)


def test_a_step_that_would_make_vectors_infinite_is_not_taken():
    training = Training("sgd", adam_weight_decay=0.0, peak_learning_rate=3e38)
    training.step([1e-38, 1e-38])
    before = training.state()

    training.step([100.0, 1.0])

    assert_same(training.state(), before)
    training.guard.look()
    assert training.guard.skipped == 1


def test_the_run_gives_up_at_the_very_step_at_which_so_many_in_a_row_are_reached():
    training = Training(most=3)
    bad = [0, 1, 1, 0, 1, 0, 0, 1, 1, 1, 0]
    asked = []
    for is_bad in bad:
        training.step(BAD[0] if is_bad else [1.0, 1.0])
        asked.append(training.guard.gives_up())

    assert asked.index(True) == 9 and training.guard.skipped == 6


def test_looking_more_often_changes_nothing_about_when_it_gives_up():
    training = Training(most=3)
    for _ in range(2):
        training.step([1.0, 1.0])
    for number in range(1, 4):
        training.step(BAD[0])
        training.guard.look()
        assert training.guard.gives_up() == (number == 3)


@pytest.mark.parametrize(
    ("steps", "fails"), [([BAD[0]], True), ([BAD[0], BAD[1]], True), ([[1.0, 1.0], BAD[0]], False)]
)
def test_a_run_that_took_no_step_has_failed_however_short_it_was(steps, fails):
    training = Training()
    for number, gradient in enumerate(steps, 1):
        training.step(gradient)
        assert training.guard.gives_up(is_last=number == len(steps)) == (fails and number == len(steps))


def test_the_processor_does_not_wait_for_the_device_while_all_is_well(monkeypatch):
    training = Training(most=8)
    training.step([1.0, 1.0])
    reads = []
    for name in ("numpy", "item", "tolist", "__bool__", "__float__", "__int__", "__array__"):
        usual = getattr(paddle.Tensor, name)
        monkeypatch.setattr(
            paddle.Tensor, name, lambda self, *a, _u=usual, _n=name, **k: (reads.append(_n), _u(self, *a, **k))[1]
        )

    counts = []
    for _ in range(15):  # steps 2 to 16
        loss = paddle.to_tensor(0.5)
        for concept in training.concepts:
            concept.grad = paddle.ones_like(concept)
        before = len(reads)
        training.guard.spoil(loss)
        training.guard.step(training.concepts)
        assert len(reads) == before
        training.guard.gives_up()
        counts.append(len(reads) > before)

    assert [step for step, read in enumerate(counts, 2) if read] == [8, 16]


def test_gradients_of_good_steps_are_added_up_for_each_concept():
    training = Training()
    training.step([3.0, 4.0])
    training.step(BAD[0])
    training.concepts[0].grad = paddle.to_tensor([12.0, 0.0])  # and nothing led to the second concept
    training.guard.step(training.concepts)

    assert training.guard.gradient_norms() == pytest.approx([13.0, 5.0])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_looks_after_the_state_of_those_that_take_part_alone(name, monkeypatch):
    concepts = [parameter([float(number), 1.0]) for number in range(1, 41)]
    optimizer, _ = optimizer_of(concepts, optimizer=name)
    guard = StepGuard(optimizer, concepts, 20)

    def step(active):
        sum(concept.sum() for concept in concepts).backward()
        guard.step(active)

    step(concepts)  # all have a state now
    restored, assign = set(), paddle.assign
    monkeypatch.setattr(paddle, "assign", lambda value, output: restored.add(output.name) or assign(value, output))
    step(concepts[:2])

    assert len(restored) == 2 * (1 + KEPT_TENSORS[name])  # the vectors, and what is remembered of them
