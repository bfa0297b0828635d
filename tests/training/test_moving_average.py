"""The moving mean of the vectors stands for them wherever they are shown, and training never sees it."""

import json

import numpy as np
import pytest

from helpers.parameters import parameter
from helpers.training_runs import short_run, vectors_in
from textual_inversion.training import checkpoints
from textual_inversion.training.moving_average import MovingAverage
from train_textual_inversion import main

DECAY = 0.3


def mean_of(values, decay=DECAY):
    """The mean after each step, by the formula."""
    found = [np.asarray(values[0], "float64")]
    for step, value in enumerate(values[1:], 2):
        d = min(decay, step / (step + 9))
        found.append(d * found[-1] + (1 - d) * np.asarray(value, "float64"))
    return found


def follow(average, vectors, values, first=1):
    for step, value in enumerate(values, first):
        for vector in vectors:
            vector.set_value(np.full(vector.shape, value, np.float32))
        average.after_step(step)


VALUES = [1.0, 4.0, -2.0, 8.0, 0.5, 3.0]


@pytest.mark.parametrize("decay", [DECAY, 0.9999, 0.0])
def test_the_mean_is_its_formula_and_only_lent(decay):
    vectors = [parameter([0.0, 0.0]), parameter([0.0])]
    average = MovingAverage(vectors, decay)
    follow(average, vectors, VALUES)

    with average.in_place():
        shown = [vector.tolist() for vector in vectors]

    wanted = mean_of(VALUES, decay)[-1]
    assert shown == [[pytest.approx(wanted)] * 2, [pytest.approx(wanted)]]
    assert [vector.tolist() for vector in vectors] == [[3.0, 3.0], [3.0]]
    average.put()
    assert vectors[1].tolist() == [pytest.approx(wanted)]


def test_the_vectors_come_back_after_an_error_too():
    vectors = [parameter([0.0])]
    average = MovingAverage(vectors, DECAY)
    follow(average, vectors, VALUES)

    with pytest.raises(KeyError), average.in_place():
        raise KeyError

    assert vectors[0].tolist() == [3.0]


def test_without_a_decay_nothing_is_done_and_nothing_kept():
    vectors = [parameter([0.0])]
    average = MovingAverage(vectors, None)
    follow(average, vectors, VALUES)

    with average.in_place():
        assert vectors[0].tolist() == [3.0]
    average.put()
    average.restore({"mean_0": np.zeros(1, "float32")})

    assert vectors[0].tolist() == [3.0] and average.state() == {}


@pytest.mark.parametrize("stop", [1, 3, 6])
def test_it_resumes_bit_for_bit(stop):
    vectors = [parameter([0.0, 0.0]), parameter([0.0])]
    whole, half, rest = (MovingAverage(vectors, DECAY) for _ in range(3))
    follow(whole, vectors, VALUES)
    follow(half, vectors, VALUES[:stop])

    rest.restore({name: tensor.numpy() for name, tensor in half.state().items()})
    follow(rest, vectors, VALUES[stop:], stop + 1)

    assert {n: t.numpy().tobytes() for n, t in rest.state().items()} == {
        n: t.numpy().tobytes() for n, t in whole.state().items()
    }


def test_a_state_of_other_vectors_is_refused():
    with pytest.raises(ValueError, match="other shapes"):
        MovingAverage([parameter([0.0])], DECAY).restore({"mean_0": np.zeros(2, "float32")})


@pytest.mark.slow
def test_a_run_trains_as_without_it_and_saves_measures_and_ends_with_the_mean(tmp_path):
    common = ["--max_train_steps", "5", "--save_steps", "1", "--eval_steps", "5", "--only_save_embeds"]
    for name, flags in (("plain", []), ("mean", ["--use_ema", "--ema_decay", str(DECAY)])):
        main(short_run(tmp_path, *common, *flags, "--output_dir", str(tmp_path / name)))

    def saved(name):
        return [vectors_in(tmp_path / name / f"learned_embeds-steps-{step}.pdparams") for step in range(1, 6)]

    ours, theirs = (checkpoints.read(tmp_path / n / "checkpoint-5").tensors for n in ("mean", "plain"))
    np.testing.assert_allclose(saved("mean"), mean_of(saved("plain")), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(vectors_in(tmp_path / "mean" / "learned_embeds.pdparams"), saved("mean")[-1])
    assert {name for name in ours if name not in theirs} == {"kept/ema/mean_0"}
    assert all(ours[name].tobytes() == theirs[name].tobytes() for name in theirs)  # the vectors themselves go on
    losses = [
        json.loads((tmp_path / n / "run.json").read_text())["figures"]["fixed_set_loss"] for n in ("plain", "mean")
    ]
    assert losses[0]["0"] == losses[1]["0"] and losses[0]["5"] != losses[1]["5"]
