"""The advice at the end of a run without finite numbers; the end itself is tested in test_mishaps."""

from types import SimpleNamespace

import pytest

from textual_inversion.training.divergence import way_out


@pytest.mark.parametrize(
    ("settings", "last_good", "named", "unnamed"),
    [
        ({}, 7, ["--learning_rate, now 0.5", "--max_grad_norm 1"], ["base model"]),
        ({"max_grad_norm": 1.0}, 7, ["--learning_rate"], ["--max_grad_norm", "--variant"]),
        ({}, 0, ["--learning_rate", "base model"], ["--variant"]),
        ({"variant": "fp16"}, 0, ["full precision, without --variant fp16"], ["--learning_rate"]),
        ({"variant": "fp16"}, 7, ["--learning_rate"], ["--variant"]),
    ],
)
def test_the_advice_fits_what_happened(settings, last_good, named, unnamed):
    args = SimpleNamespace(**{"variant": None, "max_grad_norm": -1.0, "peak_learning_rate": 0.5} | settings)

    advice = way_out(args, last_good)

    assert all(part in advice for part in named) and not any(part in advice for part in unnamed)
