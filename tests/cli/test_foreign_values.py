"""What the values of other trainers are here, one by one; what has no exact counterpart is None and never a guess."""

import argparse

import pytest

from textual_inversion.cli.foreign_values import Value, counterpart
from textual_inversion.settings.other_names import named

NOTHING = {}


def counterpart_of(system: str, key: str, *texts: str, **beside: str):
    row = named(system, "file", key) or named(system, "train", key)
    assert row is not None, key
    return counterpart(Value(row, texts, {name: (text,) for name, text in beside.items()}, key))


@pytest.mark.parametrize(
    ("system", "key", "text", "expected"),
    [
        ("kohya", "flip_aug", "true", {"flip_p": ("0.5",)}),
        ("kohya", "flip_aug", "false", {"flip_p": ("0",)}),
        ("Determined", "flip_p", "0.25", {"flip_p": ("0.25",)}),
        ("kohya", "enable_bucket", "true", {"resize_mode": ("bucket",)}),
        ("kohya", "enable_bucket", "false", NOTHING),
        ("kohya", "random_crop", "true", {"resize_mode": ("random_crop",)}),
        ("kohya", "use_style_template", "true", {"learnable_property": ("style",), "no_captions": ("true",)}),
        ("kohya", "use_object_template", "false", NOTHING),
        ("kohya", "torch_compile", "true", {"compile": ("true",)}),
        ("kohya", "resolution", "512", {"resolution": ("512",)}),
        ("kohya", "resolution", "512,768", {"width": ("512",), "height": ("768",)}),
        ("kohya", "resolution", "640,640", {"resolution": ("640",)}),
        ("kohya", "optimizer_type", "AdamW", {"optimizer": ("adamw",)}),
        ("kohya", "optimizer_type", "AdamW8bit", None),
        ("kohya", "optimizer_type", "Prodigy", {"optimizer": ("prodigy",)}),
        ("kohya", "optimizer_type", "DAdaptAdam", {"optimizer": ("dadapt_adam",)}),
        ("kohya", "optimizer_type", "DAdaptLion", None),
        ("kohya", "optimizer_type", "Lion", {"optimizer": ("lion",)}),
        ("kohya", "optimizer_type", "AdaFactor", None),  # its rate is its own there, unless an argument says otherwise
        ("kohya", "use_lion_optimizer", "true", {"optimizer": ("lion",)}),
        ("kohya", "use_lion_optimizer", "false", NOTHING),
        ("kohya", "multires_noise_iterations", "6", {"multires_noise_iterations": ("6",)}),
        ("kohya", "multires_noise_iterations", "0", NOTHING),
        ("kohya", "multires_noise_discount", "0.5", {"multires_noise_discount": ("0.5",)}),
        ("kohya", "huber_schedule", "exponential", {"huber_schedule": ("exponential",)}),
        ("kohya", "huber_c", "0.2", {"huber_c": ("0.2",)}),
        ("kohya", "huber_scale", "2", {"huber_scale": ("2",)}),
        ("kohya", "lr_scheduler", "cosine", {"lr_scheduler": ("cosine",)}),
        ("kohya", "lr_scheduler", "adafactor", None),
        ("kohya", "lr_scheduler_type", "x.Y", None),
        ("kohya", "lr_warmup_steps", "100", {"lr_warmup_steps": ("100",)}),
        ("kohya", "lr_warmup_steps", "0.05", None),
        ("kohya", "max_grad_norm", "0", {"max_grad_norm": ("-1",)}),
        ("kohya", "max_grad_norm", "0.5", {"max_grad_norm": ("0.5",)}),
        ("kohya", "loss_type", "l2", {"loss_type": ("l2",)}),
        ("kohya", "loss_type", "smooth_l1", {"loss_type": ("smooth_l1",), "huber_schedule": ("snr",)}),
        ("kohya", "loss_type", "l1", None),
        ("kohya", "resize_interpolation", "lanczos", {"interpolation": ("lanczos",)}),
        ("kohya", "resize_interpolation", "area", None),
        ("kohya", "mixed_precision", "bf16", {"mixed_precision": ("bf16",)}),
        ("kohya", "full_fp16", "true", None),
        ("kohya", "save_every_n_epochs", "2", None),
        ("kohya", "logging_dir", "/tmp/logs", None),
        ("kohya", "xformers", "true", None),
        ("kohya", "clip_skip", "2", {"clip_skip": ("2",)}),
        ("kohya", "sample_sampler", "dpmsolver++", {"scheduler": ("dpm++",)}),
        ("kohya", "sample_sampler", "k_euler_a", {"scheduler": ("euler-a",)}),
        ("kohya", "sample_sampler", "unipc", None),
        ("Determined", "inference_scheduler_name", "lms-discrete", {"scheduler": ("lms",)}),
        ("OneTrainer", "text_encoder_layer_skip", "1", None),
        ("OneTrainer", "concepts.text.keep_tags_count", "2", {"keep_tokens": ("2",)}),
        ("invoke-training", "data_loader.shuffle_caption_delimiter", ",", {"shuffle_caption": ("true",)}),
        ("invoke-training", "data_loader.shuffle_caption_delimiter", ";", None),
        ("OneTrainer", "train_dtype", "FLOAT_16", {"mixed_precision": ("fp16",)}),
        ("OneTrainer", "train_dtype", "TFLOAT_32", {"mixed_precision": ("no",), "allow_tf32": ("true",)}),
        ("OneTrainer", "train_dtype", "FLOAT_8", None),
        ("OneTrainer", "learning_rate_scheduler", "COSINE_WITH_HARD_RESTARTS",
         {"lr_scheduler": ("cosine_with_restarts",)}),
        ("OneTrainer", "learning_rate_scheduler", "REX", None),
        ("OneTrainer", "learning_rate_scheduler", "CONSTANT", {"lr_scheduler": ("constant",)}),
        ("OneTrainer", "optimizer.optimizer", "SGD", {"optimizer": ("sgd",)}),
        ("OneTrainer", "optimizer.optimizer", "PRODIGY", {"optimizer": ("prodigy",)}),
        ("OneTrainer", "optimizer.optimizer", "DADAPT_ADAM", {"optimizer": ("dadapt_adam",)}),
        ("OneTrainer", "optimizer.optimizer", "ADAFACTOR", {"optimizer": ("adafactor",)}),
        ("OneTrainer", "optimizer.optimizer", "CAME", None),
        ("OneTrainer", "optimizer.d_coef", "2.0", {"d_coef": ("2.0",)}),
        ("OneTrainer", "optimizer.d0", "1e-06", {"d0": ("1e-06",)}),
        ("OneTrainer", "optimizer.scale_parameter", "true", {"adafactor_scale_parameter": ("true",)}),
        ("OneTrainer", "optimizer.relative_step", "true", None),
        ("OneTrainer", "optimizer.eps", "1e-07", {"adam_epsilon": ("1e-07",)}),
        ("OneTrainer", "ema", "OFF", NOTHING),
        ("OneTrainer", "ema", "GPU", None),  # every five steps, unless another key says otherwise
        ("OneTrainer", "ema_decay", "0.99", {"ema_decay": ("0.99",)}),
        ("OneTrainer", "ema_update_step_interval", "1", NOTHING),
        ("OneTrainer", "ema_update_step_interval", "5", None),
        ("OneTrainer", "concepts.balancing", "3", {"repeats": ("3",)}),
        ("OneTrainer", "concepts.balancing", "0.5", None),
        ("OneTrainer", "train_device", "cuda:1", {"device": ("gpu:1",)}),
        ("OneTrainer", "train_device", "mps", None),
        ("OneTrainer", "learning_rate_scaler", "NONE", None),
        ("OneTrainer", "mse_strength", "1", NOTHING),
        ("OneTrainer", "mse_strength", "0.5", None),
        ("OneTrainer", "mae_strength", "1", None),
        ("OneTrainer", "loss_weight_fn", "CONSTANT", NOTHING),
        ("OneTrainer", "loss_weight_fn", "DEBIASED_ESTIMATION", {"debiased_estimation_loss": ("true",)}),
        ("OneTrainer", "loss_weight_fn", "P2", None),
        ("OneTrainer", "masked_training", "true", None),
        ("OneTrainer", "concepts.image.random_rotate_max_angle", "10", NOTHING),  # its switch is off
        ("OneTrainer", "concepts.image.enable_random_rotate", "true", NOTHING),  # what it switches on says how far
        ("OneTrainer", "concepts.image_variations", "1", NOTHING),
        ("OneTrainer", "concepts.image_variations", "6", {"augmented_variants": ("6",)}),
        ("kohya", "color_aug", "true", None),
        ("kohya", "face_crop_aug_range", "2.0,4.0", None),
        ("invoke-training", "data_loader.dataset.dataset_name", "me/cats", {"train_data_dir": ("hub:me/cats",)}),
        ("invoke-training", "data_loader.center_crop", "False", {"resize_mode": ("random_crop",)}),
        ("invoke-training", "optimizer.optimizer_type", "Prodigy", {"optimizer": ("prodigy",)}),
        ("invoke-training", "optimizer.use_bias_correction", "True", None),
        ("invoke-training", "optimizer.use_8bit", "True", None),
        ("invoke-training", "optimizer.use_8bit", "False", NOTHING),
        ("invoke-training", "weight_dtype", "bfloat16", {"mixed_precision": ("bf16",)}),
        ("Determined", "optimizer_name", "adam", {"optimizer": ("adam",)}),
        ("Determined", "HF_AUTH_TOKEN", "hf_x", {"hub_token": ("hf_x",)}),
        ("Determined", "HF_AUTH_TOKEN", "YOUR_HF_AUTH_TOKEN_HERE", None),
        ("Determined", "num_blank_prompts", "10", {"num_blank_prompts": ("10",)}),
    ],
)  # fmt: skip
def test_a_value_is_what_it_means_here(system, key, text, expected):
    assert counterpart_of(system, key, text) == expected


def test_a_value_may_depend_on_another_key():
    warm = counterpart_of("OneTrainer", "learning_rate_scheduler", "CONSTANT", learning_rate_warmup_steps="20")
    assert warm == {"lr_scheduler": ("constant_with_warmup",)}
    assert counterpart_of("OneTrainer", "save_every", "5", save_every_unit="STEP") == {"save_steps": ("5",)}
    assert counterpart_of("OneTrainer", "save_every", "5", save_every_unit="HOUR") is None
    assert counterpart_of("OneTrainer", "save_every", "0", save_every_unit="STEP") is None
    assert counterpart_of("OneTrainer", "sample_after", "2", sample_after_unit="EPOCH") == {"validation_epochs": ("2",)}
    snr = counterpart_of("OneTrainer", "loss_weight_fn", "MIN_SNR_GAMMA", loss_weight_strength="3")
    assert snr == {"snr_gamma": ("3",)}
    assert counterpart_of("OneTrainer", "huber_strength", "1", mse_strength="0") == {"loss_type": ("huber",)}
    assert counterpart_of("OneTrainer", "huber_strength", "1", mse_strength="1") is None
    assert counterpart_of("OneTrainer", "huber_strength", "0") == NOTHING
    assert counterpart_of("OneTrainer", "ema", "CPU", ema_update_step_interval="1") == {"use_ema": ("true",)}
    adafactor = {"optimizer.optimizer": "ADAFACTOR"}
    assert counterpart_of("OneTrainer", "optimizer.eps", "1e-30", **adafactor) == NOTHING
    assert counterpart_of("OneTrainer", "optimizer.eps", "1e-8", **adafactor) is None
    constant = counterpart_of("kohya", "loss_type", "huber", huber_schedule="constant")
    assert constant == {"loss_type": ("huber",)}  # the other key says the rest


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("relative_step=False", "warmup_init=False"), {"adafactor_scale_parameter": ("true",)}),
        (("relative_step=False", "scale_parameter=False"), {}),
        (("scale_parameter=False",), None),
    ],
)
def test_kohyas_adafactor_is_ours_where_the_rate_is_the_settings(arguments, expected):
    row = named("kohya", "train", "optimizer_type")

    found = counterpart(Value(row, ("AdaFactor",), {"training.optimizer_args": arguments}, "training.optimizer_type"))

    assert found == (None if expected is None else {"optimizer": ("adafactor",)} | expected)


def test_changes_of_colour_and_angle_count_where_they_are_switched_on():
    for name, kind, flag in (
        ("random_rotate_max_angle", "rotate", "rotation"), ("random_hue_max_strength", "hue", "hue_jitter"),
        ("random_brightness_max_strength", "brightness", "brightness_jitter"),
        ("random_contrast_max_strength", "contrast", "contrast_jitter"),
        ("random_saturation_max_strength", "saturation", "saturation_jitter"),
    ):  # fmt: skip
        beside = {f"concepts.image.enable_random_{kind}": "True"}
        assert counterpart_of("OneTrainer", f"concepts.image.{name}", "0.2", **beside) == {flag: ("0.2",)}


def test_a_data_set_has_its_revision():
    beside = {"data_loader.dataset.revision": "v2"}
    found = counterpart_of("invoke-training", "data_loader.dataset.dataset_name", "me/cats", **beside)
    assert found == {"train_data_dir": ("hub:me/cats@v2",)}


def test_arguments_of_an_optimizer_are_flags_of_their_own_or_none_at_all():
    assert counterpart_of("kohya", "optimizer_args", "weight_decay=0.1", "betas=0.9, 0.99", "eps=1e-6") == {
        "adam_weight_decay": ("0.1",), "adam_beta1": ("0.9",), "adam_beta2": ("0.99",), "adam_epsilon": ("1e-6",),
    }  # fmt: skip
    assert counterpart_of("kohya", "optimizer_args", "weight_decay=0.1", "amsgrad=True") is None
    assert counterpart_of("kohya", "optimizer_args", "betas=0.9") is None
    prodigy = ("decouple=True", "d_coef=2", "d0=1e-5", "use_bias_correction=False", "safeguard_warmup=False")
    assert counterpart_of("kohya", "optimizer_args", *prodigy) == {"d_coef": ("2",), "d0": ("1e-5",)}
    assert counterpart_of("kohya", "optimizer_args", "use_bias_correction=True") is None
    adafactor = ("relative_step=False", "scale_parameter=False", "warmup_init=False")
    assert counterpart_of("kohya", "optimizer_args", *adafactor) == {"adafactor_scale_parameter": ("false",)}
    coupled = {"optimizer_type": "DAdaptAdam"}
    assert counterpart_of("kohya", "optimizer_args", "weight_decay=0.1", **coupled) is None
    assert counterpart_of("kohya", "optimizer_args", "weight_decay=0.1", "decouple=True", **coupled) is not None


@pytest.mark.parametrize(
    ("system", "key", "texts"),
    [
        ("kohya", "enable_bucket", ["perhaps"]),
        ("kohya", "lr_warmup_steps", ["many"]),
        ("kohya", "lr_warmup_steps", ["inf"]),
        ("kohya", "max_grad_norm", ["x"]),
        ("kohya", "resolution", ["1", "2", "3"]),
        ("OneTrainer", "huber_strength", ["x"]),
    ],
)
def test_values_of_another_type_are_errors(system, key, texts):
    with pytest.raises((ValueError, OverflowError, argparse.ArgumentTypeError)):
        counterpart_of(system, key, *texts)
