"""The training command with every objective, on tiny random models."""

import numpy as np
import paddle
import pytest

import train_textual_inversion
from helpers.training_runs import draw_images, masks_of, rows_after, rows_in, set_up, short_run
from textual_inversion.settings.choices import OPTIMIZERS
from textual_inversion.system.errors import SettingsError
from textual_inversion.training import callbacks, optimizer

BARE = ("--only_save_embeds", "--eval_steps", "1")


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        ["--loss_type", "huber", "--huber_c", "0.2"],
        ["--loss_type", "smooth_l1"],
        ["--snr_gamma", "5"],
        ["--debiased_estimation_loss"],
        ["--input_perturbation", "0.1", "--noise_offset", "0.1"],
        ["--min_timestep", "100", "--max_timestep", "900"],
        ["--optimizer", "adam"],
        ["--optimizer", "sgd", "--sgd_momentum", "0.5"],
        ["--optimizer", "lion"],
        ["--optimizer", "adafactor"],
        ["--optimizer", "adafactor", "--adafactor_scale_parameter"],
        ["--optimizer", "prodigy", "--d0", "0.001"],
        ["--optimizer", "dadapt_adam", "--d0", "0.001"],
        ["--loss_type", "huber", "--huber_schedule", "snr"],
        ["--multires_noise_iterations", "6"],
        ["--learning_rate", "0.01:1, 0.001"],
    ],
    ids=lambda flags: " ".join(flags),
)
def test_every_objective_and_optimizer_trains_in_its_own_way(tmp_path, flags):
    plain = rows_after(short_run(tmp_path, *BARE))["<cat-toy>"]

    rows = rows_after(short_run(tmp_path, *BARE, *flags, "--output_dir", str(tmp_path / "other")))["<cat-toy>"]

    assert np.isfinite(rows).all()
    assert np.abs(rows - plain).max() > 1e-7


class Still:
    """An optimizer that leaves the rows as they are."""

    def step(self):
        pass

    def clear_grad(self, set_to_zero=True):
        pass

    def get_lr(self):
        return 0.0


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd1", "sd2"])
@pytest.mark.parametrize(
    ("loss_type", "weighting"),
    [("l2", ["--snr_gamma", "2"]), ("huber", ["--debiased_estimation_loss"]), ("smooth_l1", ["--snr_gamma", "1"])],
)
def test_the_loss_of_a_step_is_its_formula(tmp_path, monkeypatch, family, loss_type, weighting):
    """Everything at once: weights, Huber, masks, both additional noises, a range of timesteps."""
    losses, runs = [], []
    monkeypatch.setattr(optimizer, "make_optimizer", lambda settings, schedule, parameters: Still())
    make = callbacks.make_callbacks
    monkeypatch.setattr(callbacks, "make_callbacks", lambda config, run, *rest: (
        runs.append(run), make(config, run, *rest))[1])  # fmt: skip
    monkeypatch.setattr(callbacks.Callbacks, "after_step", lambda self, step, loss, rate: losses.append(float(loss)))
    image_folder = draw_images(tmp_path / "own")
    train_textual_inversion.main(
        short_run(tmp_path, *BARE, "--max_train_steps", "1", "--train_data_dir", str(image_folder), *weighting,
                  "--loss_type", loss_type, "--mask_dir", str(masks_of(image_folder, tmp_path / "masks")),
                  "--unmasked_weight", "0.1", "--noise_offset", "0.2", "--input_perturbation", "0.3",
                  "--min_timestep", "200", "--max_timestep", "800", family=family)
    )  # fmt: skip

    run = runs[0]
    batch = run.samples.batch(0, range(2))
    assert 200 <= batch.timesteps.min() and batch.timesteps.max() < 800
    a = run.model.noise_scheduler.alphas_cumprod.numpy()[batch.timesteps].astype("float64")[:, None, None, None]
    x = run.data.latents.sample(batch).numpy()
    e = batch.noise + 0.2 * batch.offset_noise
    noisy = np.sqrt(a) * x + np.sqrt(1 - a) * (e + 0.3 * batch.perturbation)
    target = e if family == "sd1" else np.sqrt(a) * e - np.sqrt(1 - a) * x
    hidden = run.model.encode_prompts(batch.prompts).hidden_states
    timesteps = paddle.to_tensor(batch.timesteps)
    d = run.model.unet(paddle.to_tensor(noisy.astype("float32")), timesteps, hidden).sample.numpy() - target
    root = 2 * (np.sqrt(d**2 + 0.1**2) - 0.1)
    each = {"l2": d**2, "huber": 0.1 * root, "smooth_l1": root}[loss_type].mean(axis=1)
    mask = run.data.masks.weights(batch)[:, 0]
    snr = (a / (1 - a)).flatten()
    weights = np.minimum(snr, float(weighting[1])) / snr if "--snr_gamma" in weighting else 1 / np.sqrt(snr)
    if family == "sd2":
        weights = weights * snr / (snr + 1)
    expected = ((each * mask).sum(axis=(1, 2)) / mask.sum(axis=(1, 2)) * weights).mean()
    assert losses[0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_a_schedule_that_ends_in_pure_noise_trains_v_and_refuses_epsilon(tmp_path):
    scheduler = {"rescale_betas_zero_snr": True, "_class_name": "DDIMScheduler"}
    (tmp_path / "v").mkdir(), (tmp_path / "epsilon").mkdir()
    last = ("--min_timestep", "998")

    for weighting in (["--snr_gamma", "5"], ["--debiased_estimation_loss"], []):
        argv = short_run(tmp_path / "v", *BARE, *last, *weighting, family="sd2", scheduler=scheduler)
        assert np.isfinite(rows_after(argv)["<cat-toy>"]).all()
    argv = short_run(tmp_path / "epsilon", *BARE, scheduler=scheduler)
    with pytest.raises(SettingsError, match="--max_timestep 999"):
        train_textual_inversion.main(argv)
    assert np.isfinite(rows_after([*argv, "--max_timestep", "999"])["<cat-toy>"]).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_words_rows_rest_while_only_the_other_is_shown(tmp_path, monkeypatch, name):
    words = ["--placeholder_token", "<one>", "<two>", "--initializer_token", "toy", "--train_data_dir"]
    draw_images(tmp_path / "others", count=1)
    argv = short_run(tmp_path, *BARE, *words, str(tmp_path / "pictures"), str(tmp_path / "others"), "--optimizer", name,
                     "--adam_weight_decay", "0.5", "--max_grad_norm", "1", "--train_batch_size", "1",
                     "--save_steps", "1", "--max_train_steps", "3")  # fmt: skip
    with monkeypatch.context() as patch:
        start = set_up(patch, argv).vectors.values()["text_encoder"]
    train_textual_inversion.main(argv)

    first, second, third = (rows_in(argv, f"learned_embeds-steps-{step}.pdparams") for step in (1, 2, 3))

    np.testing.assert_array_equal(first["<two>"], start[1:])
    np.testing.assert_array_equal(second["<one>"], first["<one>"])
    np.testing.assert_array_equal(third["<two>"], second["<two>"])
    assert (first["<one>"] != start[:1]).any() and (second["<two>"] != start[1:]).any()
