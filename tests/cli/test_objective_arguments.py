"""Flags of images, loss and optimizer: what goes together and what does not."""

import pytest

from helpers.configs import parsed, planned
from textual_inversion.settings import config_yaml
from textual_inversion.settings.choices import OPTIMIZERS
from textual_inversion.settings.flag import flags_of
from textual_inversion.settings.rates import Stage
from textual_inversion.settings.train_data import ImageSettings
from textual_inversion.settings.train_method import ObjectiveSettings, OptimizerSettings, TrainingSettings
from textual_inversion.system.errors import SettingsError

REAL = ["--pretrained_model_name_or_path", "some/model"]


def test_center_crop_is_a_resize_mode():
    assert parsed([*REAL, "--center_crop"]).resize_mode == "center_crop"
    assert parsed([*REAL, "--resize_mode", "bucket"]).resize_mode == "bucket"
    assert parsed(REAL).resize_mode == "squash"


def test_weight_decay_is_adamws_unless_it_is_given():
    assert parsed(REAL).adam_weight_decay == 0.02
    for name in set(OPTIMIZERS) - {"adamw"}:
        assert parsed([*REAL, "--optimizer", name]).adam_weight_decay == 0.0
        assert parsed([*REAL, "--optimizer", name, "--adam_weight_decay", "0.1"]).adam_weight_decay == 0.1


@pytest.mark.parametrize("model", [REAL, []])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_optimizer_has_its_own_defaults_of_rate_and_decay(name, model):
    usual, found = parsed(model), parsed([*model, "--optimizer", name])
    given = parsed([*model, "--optimizer", name, "--learning_rate", "0.5", "--adam_beta2", "0.5"])

    assert found.learning_rate == (1.0 if name in ("prodigy", "dadapt_adam") else usual.learning_rate)
    assert found.adam_beta2 == (0.99 if name == "lion" else 0.999)
    assert (given.learning_rate, given.adam_beta2) == (0.5, 0.5)
    # The line about the demo's own defaults says what is true.
    assert all(getattr(found, flag) == value for flag, value in found.demo_defaults.items())


@pytest.mark.parametrize("model", [REAL, []])
def test_several_rates_are_a_schedule_of_their_own(model):
    rates = ["--learning_rate", "5e-3:100, 1e-3:1000, 5e-4"]
    found = planned([*model, *rates, "--scale_lr", "--train_batch_size", "2", "--max_train_steps", "2000"])

    assert (found.learning_rate, found.lr_scheduler) == ("0.005:100, 0.001:1000, 0.0005", "constant")
    assert found.plan.rates == (Stage(0.01, 100), Stage(0.002, 1000), Stage(0.001))
    assert found.plan.peak_learning_rate == 0.01
    assert parsed([*model, *rates, "--lr_scheduler", "constant"]).learning_rate == found.learning_rate
    with pytest.raises(SettingsError, match="schedule of its own and cannot be combined with --lr_scheduler linear"):
        parsed([*model, *rates, "--lr_scheduler", "linear"])
    with pytest.raises(SettingsError, match="ends at step 20 of 21; write the last rate without a step"):
        planned([*model, "--learning_rate", "1e-3:10, 1e-4:20", "--max_train_steps", "21"])


def test_one_rate_has_no_stages():
    assert planned(REAL).plan.rates == ()
    assert planned([*REAL, "--learning_rate", "1e-3:-1"]).learning_rate == 0.001


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["--center_crop", "--resize_mode", "bucket"], "--center_crop and --resize_mode bucket"),
        (["--center_crop", "--resize_mode", "squash"], "--center_crop and --resize_mode squash"),
        (["--mask_dir", "masks", "--alpha_mask"], "--mask_dir and --alpha_mask"),
        (["--mask_dir", "one", "two"], "--mask_dir has 2 values and --placeholder_token 1"),
        (["--unmasked_weight", "0.1"], "--mask_dir or --mask_from"),
        (["--snr_gamma", "5", "--debiased_estimation_loss"], "two weightings"),
        (["--snr_gamma", "0"], "--snr_gamma: must be greater than 0"),
        (["--min_timestep", "500", "--max_timestep", "500"], "--max_timestep 500 must be above"),
        (["--huber_c", "0.2"], "--loss_type huber or smooth_l1"),
        (["--sgd_momentum", "0.5"], "--optimizer sgd"),
        (["--d0", "1e-5"], "--optimizer prodigy or dadapt_adam"),
        (["--d0", "1e-5", "--optimizer", "lion"], "--optimizer prodigy or dadapt_adam"),
        (["--d_coef", "2", "--optimizer", "dadapt_adam"], "--optimizer prodigy; add it"),
        (["--adafactor_scale_parameter"], "--optimizer adafactor"),
        (["--ema_decay", "0.9"], "--use_ema"),
        (["--use_ema", "--average_last_steps", "3"], "two means of the vectors"),
        (["--huber_schedule", "snr"], "--loss_type huber or smooth_l1"),
        (["--huber_scale", "2"], "--loss_type huber or smooth_l1"),
        (["--huber_scale", "2", "--huber_schedule", "snr", "--loss_type", "huber"], "constant or exponential"),
        (["--multires_noise_discount", "0.5"], "--multires_noise_iterations"),
        (["--multires_noise_iterations", "6", "--noise_offset", "0.1"], "both shift large areas"),
        (["--max_grad_norm", "0"], "would stop all learning"),
        (["--max_grad_norm", "inf"], "-1 for no clipping"),
        (["--resize_mode", "stretch"], "--resize_mode"),
    ],
)
def test_what_does_not_go_together_is_refused(argv, reason):
    with pytest.raises(SettingsError, match=reason) as caught:
        parsed(REAL + argv)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "argv",
    [
        ["--center_crop", "--alpha_mask", "--unmasked_weight", "0.1", "--optimizer", "sgd", "--sgd_momentum", "0.5"],
        ["--resize_mode", "bucket", "--loss_type", "huber", "--huber_c", "0.2", "--snr_gamma", "5", "--flip_p", "0"],
        ["--mask_dir", "masks", "--optimizer", "adam", "--debiased_estimation_loss", "--max_timestep", "900"],
        ["--optimizer", "prodigy", "--d0", "1e-5", "--d_coef", "2", "--use_ema", "--ema_decay", "0.9"],
        ["--optimizer", "lion", "--learning_rate", "5e-3:100, 1e-3:1000, 5e-4", "--multires_noise_iterations", "6"],
        ["--optimizer", "adafactor", "--adafactor_scale_parameter", "--learning_rate", "1e-3:20, 1e-4:6000"],
        ["--loss_type", "huber", "--huber_schedule", "exponential", "--huber_scale", "2"],
    ],
)
def test_the_configuration_that_a_run_writes_repeats_its_objective(tmp_path, argv):
    args = parsed(REAL + argv)
    written = config_yaml.write(tmp_path, args.whole, "train_textual_inversion.py")

    again = parsed(["--config", str(written)])

    for group in (ImageSettings, TrainingSettings, ObjectiveSettings, OptimizerSettings):
        for name in flags_of(group):
            assert getattr(again, name) == getattr(args, name), name


@pytest.mark.parametrize("flags", [["--timestep_sampling", "stratified"], ["--antithetic_noise"]])
def test_what_spreads_over_the_global_batch_needs_more_than_one_sample(flags):
    argv = ["--train_batch_size", "1", *flags]
    with pytest.raises(SettingsError, match=f"{' '.join(flags)} has no effect on one sample.*or leave it out"):
        planned(argv, 5, 1)

    planned(argv, 5, 2)  # two processes
    planned([*argv, "--gradient_accumulation_steps", "2"], 5, 1)


def test_the_demos_own_spreading_is_no_reason_to_refuse_one_sample():
    args = planned(["--train_batch_size", "1"], 5, 1)

    assert (args.timestep_sampling, args.antithetic_noise) == ("stratified", True)


def test_more_last_steps_than_there_are_cannot_be_averaged():
    with pytest.raises(SettingsError, match="--average_last_steps 11 is more than the 10 training steps"):
        planned(["--max_train_steps", "10", "--average_last_steps", "11"], 5, 1)
