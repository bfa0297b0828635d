"""The mean of the rows after the last steps takes their place, and only at the end."""

import numpy as np
import pytest

from helpers.parameters import parameter
from helpers.training_runs import short_run, vectors_in
from textual_inversion.training.averaging import RowAverage
from train_textual_inversion import main


def walked(average, words, steps):
    for step in steps:
        for word in words:
            word.set_value(np.full(word.shape, step**2, np.float32))
        average.after_step(step)
    return [word.tolist() for word in words]


def test_the_rows_become_the_mean_after_the_last_step_only():
    words = [parameter([0.0, 0.0]), parameter([0.0])]
    average = RowAverage(words, 3, 5)

    assert walked(average, words, range(1, 5)) == [[16.0, 16.0], [16.0]]
    assert walked(average, words, [5])[1] == [pytest.approx((9 + 16 + 25) / 3)]
    assert words[0].tolist() == pytest.approx([(9 + 16 + 25) / 3] * 2)


@pytest.mark.parametrize("last", [0, 1])
def test_without_it_and_over_one_step_the_rows_stay_as_the_last_step_left_them(last):
    words = [parameter([0.0])]

    assert walked(RowAverage(words, last, 4), words, range(1, 5)) == [[16.0]]


@pytest.mark.parametrize("stop", [1, 3])  # before the sums begin, and among them
def test_it_goes_on_from_what_was_kept(stop):
    words = [parameter([0.0, 0.0]), parameter([0.0])]
    first, second = (RowAverage(words, 3, 5) for _ in range(2))
    walked(first, words, range(1, stop + 1))

    second.restore({name: tensor.numpy() for name, tensor in first.state().items()})

    assert set(first.state()) == {"sum_0", "sum_1"}
    assert walked(second, words, range(stop + 1, 6))[1] == [pytest.approx(50 / 3)]


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
