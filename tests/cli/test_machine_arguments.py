"""What the flags of device, precision and memory settle, and what they refuse."""

import pytest

from helpers.configs import parsed
from textual_inversion.system.errors import SettingsError

REAL = ["--pretrained_model_name_or_path", "model", "--train_data_dir", "pictures"]


def settled(*more):
    return parsed([*REAL, *more])


def test_low_memory_keeps_the_global_batch():
    args = settled("--low_memory")

    assert (args.train_batch_size, args.gradient_accumulation_steps) == (1, 16)
    assert args.gradient_checkpointing


def test_what_the_user_says_wins_over_low_memory():
    args = settled("--low_memory", "--train_batch_size", "4")
    assert (args.train_batch_size, args.gradient_accumulation_steps) == (4, 1)

    args = settled("--low_memory", "--gradient_accumulation_steps", "2")
    assert (args.train_batch_size, args.gradient_accumulation_steps) == (1, 2)

    args = settled("--low_memory", "--train_batch_size", "2", "--gradient_accumulation_steps", "3")
    assert (args.train_batch_size, args.gradient_accumulation_steps) == (2, 3)


def test_low_memory_counts_with_the_demos_batch():
    args = parsed(["--low_memory"])

    assert (args.train_batch_size, args.gradient_accumulation_steps) == (1, 8)


def test_without_low_memory_nothing_is_chosen():
    args = settled()

    assert (args.train_batch_size, args.gradient_accumulation_steps, args.gradient_checkpointing) == (16, 1, False)
    assert (args.mixed_precision, args.allow_tf32) == ("no", False)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_on_a_cpu_that_was_asked_for_is_refused_at_once(precision):
    with pytest.raises(
        SettingsError, match=f"--mixed_precision {precision} cannot be combined with --device cpu.*leave"
    ):
        settled("--mixed_precision", precision, "--device", "cpu")


@pytest.mark.parametrize("other", ["--low_memory", "--gradient_checkpointing"])
def test_a_compiled_step_does_not_recompute(other):
    with pytest.raises(SettingsError, match=f"--compile and {other} cannot be combined"):
        settled("--compile", other)
