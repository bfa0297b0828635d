"""When things are due while a run trains."""

import pytest

from helpers.configs import config_of
from textual_inversion.training.intervals import Intervals, images_due
from textual_inversion.training.step_plan import StepPlan

STEPS = range(1, 16)


def plan_of(global_batch=4):
    return StepPlan(steps=15, global_batch=global_batch, epoch_samples=10, peak_learning_rate=0.1)


@pytest.mark.parametrize(
    ("flags", "global_batch", "steps"),
    [
        ({"validation_steps": 4}, 4, [4, 8, 12, 15]),
        # Two epochs of ten samples are over during steps 5, 10 and 15, whatever the batch leaves over.
        ({}, 4, [5, 10, 15]),
        ({}, 6, [4, 7, 10, 14, 15]),
        ({"validation_epochs": 1000}, 4, [15]),
        ({}, 40, list(STEPS)),
    ],
)
def test_images_are_due_by_steps_or_by_samples_and_at_the_end(flags, global_batch, steps):
    settings = config_of(**{"validation_epochs": 2} | flags).validation

    assert [step for step in STEPS if images_due(settings, plan_of(global_batch), step)] == steps


def due(name, has_prompts=True, **flags):
    config = config_of(**{"checkpointing_steps": 6} | flags)
    intervals = Intervals(config.validation, config.saving, has_prompts, plan_of())
    return [step for step in STEPS if getattr(intervals, name)(step)]


def test_everything_is_due_every_so_often_and_all_but_the_periodic_save_at_the_end():
    assert due("is_last") == [15]
    assert due("logs") == [1, 10, 15]
    assert due("evaluates", eval_steps=4) == [4, 8, 12, 15]
    assert due("draws", validation_steps=7) == [7, 14, 15]
    assert due("saves", save_steps=6) == [6, 12]  # the final files are written after the last step
    assert due("checkpoints") == [6, 12, 15]


def test_what_was_not_asked_for_is_never_due():
    assert due("evaluates", eval_steps=0) == []
    assert due("draws", has_prompts=False, validation_steps=1) == []
