"""Schedulers: by their short names, in a base model's way, from a file of any class."""

import numpy as np
import pytest

from textual_inversion.models.schedulers import drawing_notes, sampling_scheduler, training_scheduler
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


@pytest.mark.parametrize("name", ["TCDScheduler", "SASolverScheduler", "SchedulerOfTomorrow", "utils", None, 5, ["x"]])
def test_training_needs_the_betas_and_not_the_class(name):
    """With the entries of newer versions in the file, and the betas among those that are its class's defaults."""
    config = BASE | {"_class_name": name, "predictor_order": 2, "_use_default_values": list(BASE)}

    np.testing.assert_array_equal(
        training_scheduler(config, "here").alphas_cumprod, training_scheduler(BASE, "here").alphas_cumprod
    )
    for chosen, expected in ((None, "DDIMScheduler"), ("heun", "HeunDiscreteScheduler")):
        scheduler = sampling_scheduler(config, chosen)
        assert type(scheduler).__name__ == expected and scheduler.config.prediction_type == "v_prediction"
        np.testing.assert_allclose(scheduler.alphas_cumprod, training_scheduler(BASE, "x").alphas_cumprod, rtol=1e-6)


def test_betas_that_a_file_leaves_out_are_those_of_its_own_class():
    """LCM's defaults are others than DDPM's."""
    from ppdiffusers import LCMScheduler

    expected = LCMScheduler().alphas_cumprod.numpy()

    for config in ({"_class_name": "LCMScheduler"}, dict(LCMScheduler().config) | {"_class_name": "LCMScheduler"}):
        np.testing.assert_allclose(training_scheduler(config, "here").alphas_cumprod, expected, rtol=1e-6)
        np.testing.assert_allclose(sampling_scheduler(config, "ddim").alphas_cumprod, expected, rtol=1e-6)


def test_betas_may_be_listed():
    config = {"_class_name": "TCDScheduler", "trained_betas": [0.1, 0.2, 0.3]}

    scheduler = training_scheduler(config, "here")

    np.testing.assert_allclose(scheduler.alphas_cumprod, [0.9, 0.72, 0.504], rtol=1e-6)
    assert sampling_scheduler(config).config.num_train_timesteps == 3


@pytest.mark.parametrize(
    ("name", "substitute"),
    [
        ("DDIMScheduler", None),
        ("DDIMParallelScheduler", None),
        ("UniPCMultistepScheduler", "DPMSolverMultistepScheduler"),
        ("TCDScheduler", "DDIMScheduler"),
        ("DDIMInverseScheduler", "DDIMScheduler"),
        (None, "DDIMScheduler"),
    ],
)
def test_another_scheduler_than_the_bases_own_is_told(name, substitute):
    config = BASE | {"_class_name": name}

    notes = drawing_notes(config)

    if substitute is None:
        assert notes == [] and type(sampling_scheduler(config)).__name__ == name
    else:
        named = f"the scheduler {name}" if name else "no scheduler"
        assert len(notes) == 1 and notes[0].startswith(f"the base model names {named}, which is not drawn with here; ")
        assert f"images are drawn with {substitute} " in notes[0]
        assert type(sampling_scheduler(config)).__name__ == substitute
    assert drawing_notes(config, "euler") == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"_class_name": "FlowMatchEulerDiscreteScheduler"},
            "the scheduler FlowMatchEulerDiscreteScheduler: this is a model of flow matching, which has no DDPM noise",
        ),
        ({"_class_name": "FlowMatchSchedulerOfTomorrow"}, "a model of flow matching"),
        ({"_class_name": "UniPCMultistepScheduler", "use_flow_sigmas": True}, "a model of flow matching"),
        ({"_class_name": "SASolverScheduler", "prediction_type": "flow_prediction"}, "a model of flow matching"),
        ({"_class_name": "EDMEulerScheduler"}, "a model whose noise is given by sigmas"),
        (
            {"_class_name": "TCDScheduler", "beta_schedule": None},
            "names the scheduler TCDScheduler and does not say beta",
        ),
        ({"_class_name": None, "beta_start": None}, "names no scheduler and does not say beta_start"),
        ({"_class_name": "CMStochasticIterativeScheduler", "beta_end": None}, "does not say beta_start"),
        ({"prediction_type": "sample"}, "prediction_type sample; only epsilon"),
        ({"num_train_timesteps": 10**9}, "num_train_timesteps 1000000000, which no model has"),
        ({"num_train_timesteps": "many"}, "num_train_timesteps 'many'"),
        ({"num_train_timesteps": 0}, "num_train_timesteps 0"),
        ({"beta_end": 7.0}, "betas that are no noise schedule"),
        ({"beta_start": float("nan")}, "betas that are no noise schedule"),
        ({"trained_betas": [0.1, -0.5]}, "betas that are no noise schedule"),
    ],
)
def test_what_cannot_be_trained_is_refused(changes, message):
    with pytest.raises(BaseModelError, match=f"here .*{message}"):
        training_scheduler(BASE | changes, "here")


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(SettingsError, match="no scheduler dmp; take one of ddim, ddpm"):
        sampling_scheduler(BASE, "dmp")
