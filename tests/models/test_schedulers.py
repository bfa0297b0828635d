"""Schedulers: by their short names, in a base model's way, from a file of any class."""

import numpy as np
import pytest

from textual_inversion.models.schedulers import sampling_scheduler, training_scheduler
from textual_inversion.settings.choices import SCHEDULERS
from textual_inversion.system.errors import BaseModelError, SettingsError

BASE = dict(
    _class_name="PNDMScheduler",
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    num_train_timesteps=1000,
    prediction_type="v_prediction",
)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_name_makes_its_class_with_the_bases_noise(name):
    scheduler = sampling_scheduler(BASE, name)

    assert type(scheduler).__name__ == SCHEDULERS[name]
    assert scheduler.config.prediction_type == "v_prediction"
    np.testing.assert_allclose(scheduler.alphas_cumprod, training_scheduler(BASE, "here").alphas_cumprod, rtol=1e-6)


def test_without_a_name_the_bases_own_class_samples():
    assert type(sampling_scheduler(BASE | {"_class_name": "HeunDiscreteScheduler"})).__name__ == "HeunDiscreteScheduler"
    # ppdiffusers' UniPC does not run on this Paddle.
    substitute = sampling_scheduler(BASE | {"_class_name": "UniPCMultistepScheduler", "solver_type": "bh2"})
    assert type(substitute).__name__ == "DPMSolverMultistepScheduler"


def test_latents_are_not_clipped_and_steps_begin_at_one():
    config = sampling_scheduler(BASE | {"_class_name": "DDIMScheduler", "clip_sample": True, "steps_offset": 0}).config

    assert (config.clip_sample, config.steps_offset) == (False, 1)
    assert sampling_scheduler(BASE, "ddim").config.set_alpha_to_one is False


def test_another_class_keeps_its_own_defaults():
    listed = BASE | {"timestep_spacing": "linspace", "_use_default_values": ["timestep_spacing"]}

    assert sampling_scheduler(listed, "ddim").config.timestep_spacing == "leading"
    assert sampling_scheduler(BASE | {"timestep_spacing": "trailing"}, "ddim").config.timestep_spacing == "trailing"


def test_unknown_entries_of_newer_versions_are_left_out():
    assert training_scheduler(BASE | {"an_entry_of_tomorrow": 1}, "here").config.prediction_type == "v_prediction"


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"_class_name": "FlowMatchEulerDiscreteScheduler"},
            "FlowMatchEulerDiscreteScheduler, which has no DDPM noise",
        ),
        ({"_class_name": None}, "scheduler None"),
        ({"prediction_type": "sample"}, "prediction_type sample; only epsilon"),
    ],
)
def test_what_cannot_be_trained_is_refused(changes, message):
    with pytest.raises(BaseModelError, match=f"here .*{message}"):
        training_scheduler(BASE | changes, "here")


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(SettingsError, match="no scheduler dmp; take one of ddim, ddpm"):
        sampling_scheduler(BASE, "dmp")
