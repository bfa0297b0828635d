"""What is shown, measured and saved around the training steps."""

from types import SimpleNamespace

import pytest

from textual_inversion.watching import pictures_due


def settings_of(**settings):
    usual = dict(validation_prompt=["x"], validation_steps=None, validation_epochs=2, epoch_samples=10, global_batch=4,
                 max_train_steps=15)  # fmt: skip
    return SimpleNamespace(**usual | settings)


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"validation_steps": 4}, [4, 8, 12, 15]),
        # Two epochs of ten samples are over during steps 5, 10 and 15, whatever the batch leaves over.
        ({}, [5, 10, 15]),
        ({"global_batch": 6}, [4, 7, 10, 14, 15]),
        ({"validation_epochs": 1000}, [15]),
        ({"global_batch": 40}, list(range(1, 16))),
    ],
)
def test_pictures_are_due_by_steps_or_by_samples_and_at_the_end(settings, steps):
    args = settings_of(**settings)

    assert [step for step in range(1, 16) if pictures_due(args, step)] == steps
