"""The mean of the vectors after the last steps takes their place, and only at the end."""

import numpy as np
import pytest

from helpers.parameters import parameter
from helpers.training_runs import short_run, vectors_in
from textual_inversion.training.averaging import VectorAverage
from train_textual_inversion import main


def walked(average, vectors, steps):
    for step in steps:
        for vector in vectors:
            vector.set_value(np.full(vector.shape, step**2, np.float32))
        average.after_step(step)
    return [vector.tolist() for vector in vectors]


def test_the_vectors_become_the_mean_after_the_last_step_only():
    vectors = [parameter([0.0, 0.0]), parameter([0.0])]
    average = VectorAverage(vectors, 3, 5)

    assert walked(average, vectors, range(1, 5)) == [[16.0, 16.0], [16.0]]
    assert walked(average, vectors, [5])[1] == [pytest.approx((9 + 16 + 25) / 3)]
    assert vectors[0].tolist() == pytest.approx([(9 + 16 + 25) / 3] * 2)


@pytest.mark.parametrize("last", [0, 1])
def test_without_it_and_over_one_step_the_vectors_stay_as_the_last_step_left_them(last):
    vectors = [parameter([0.0])]

    assert walked(VectorAverage(vectors, last, 4), vectors, range(1, 5)) == [[16.0]]


@pytest.mark.parametrize("stop", [1, 3])  # before the sums begin, and among them
def test_it_resumes_from_what_was_kept(stop):
    vectors = [parameter([0.0, 0.0]), parameter([0.0])]
    first, second = (VectorAverage(vectors, 3, 5) for _ in range(2))
    walked(first, vectors, range(1, stop + 1))

    second.restore({name: tensor.numpy() for name, tensor in first.state().items()})

    assert set(first.state()) == {"sum_0", "sum_1"}
    assert walked(second, vectors, range(stop + 1, 6))[1] == [pytest.approx(50 / 3)]


@pytest.mark.slow
def test_a_run_ends_with_the_mean_of_its_last_saves(tmp_path):
    from safetensors.numpy import load_file

    for name, last in (("plain", "0"), ("mean", "3")):
        argv = ["--max_train_steps", "5", "--save_steps", "1", "--eval_steps", "0", "--average_last_steps", last]
        main(short_run(tmp_path, *argv, "--only_save_embeds", "--output_dir", str(tmp_path / name)))

    saved = [vectors_in(tmp_path / "plain" / f"learned_embeds-steps-{step}.pdparams") for step in (3, 4, 5)]
    ends = [load_file(tmp_path / name / "learned_embeds.safetensors")["<cat-toy>"] for name in ("plain", "mean")]
    np.testing.assert_array_equal(ends[0], saved[2])
    np.testing.assert_allclose(ends[1], np.mean(saved, axis=0), rtol=1e-6)
    assert abs(ends[1] - ends[0]).max() > 1e-4
