"""What each flag of the training command means beside its value: a contract, spelled out once."""

import dataclasses

import pytest

from helpers.configs import config_of
from textual_inversion.settings.flag import all_flags, groups_of
from textual_inversion.settings.train import TrainConfig

FLAGS = all_flags(TrainConfig)

# What may change when a run is resumed: every other flag decides what it learns.
UPLOAD = {"push_to_hub", "push_to", "hub_whole_pipeline", "hub_token", "hub_model_id"}
NAMES_AND_PATHS = {
    "config", "output_dir", "logging_dir", "train_data_dir", "mask_dir", "initializer_embeds", "cache_dir",
    "cache_latents_dir", "template_file", "clip_model", "pretrained_model_name_or_path", "tokenizer_name", "revision",
    "variant", "vae", "mask_model", "validation_data_dir", "validation_mask_dir", "contrast_data_dir",
}  # fmt: skip
MACHINE = {
    "device", "num_threads", "dataloader_num_workers", "gradient_checkpointing",
    "enable_xformers_memory_efficient_attention", "low_memory", "compile",
}  # fmt: skip
# The prompts and the masks themselves are compared.
HOW_PROMPTS_AND_MASKS_COME = {
    "no_captions", "append_file_name_to_text", "file_name_split_char", "alpha_mask", "caption_prefix", "caption_suffix",
    "mask_from",
    "num_blank_prompts", "num_a_prompts",
}  # fmt: skip
# The global batch is compared, the peak learning rate, the images' height and width, the resize mode, and the steps; a
# checkpoint holds the vectors that a run started from.
SAID_BY_OTHERS = {
    "train_batch_size", "gradient_accumulation_steps", "num_train_epochs", "repeats", "scale_lr", "resolution",
    "height", "width", "center_crop", "rename",
}  # fmt: skip
# It changes the last bits of latents, as the machine does, and is the same for all processes.
ROUNDING = {"vae_batch_size"}
# What it sets is compared flag by flag.
PRESET = {"preset"}
VALIDATION_PROMPTS = {"validation_prompt", "validation_prompts_file"}
ONLY_WATCHED = {
    "eval_steps", "prompt_weights", "scheduler", "validation_epochs", "validation_steps", "num_validation_images",
    "guidance_scale", "num_inference_steps", "overview", "overview_concepts", "overview_images",
    "keep_best", "report_to", "save_steps", "only_save_embeds", "export",
    "checkpointing_steps", "checkpoints_total_limit", "max_restarts", "resume_from_checkpoint",
    "allow_changed_settings", "check_images", "plan",
}  # fmt: skip


def flags_where(is_so):
    return {name for name, flag in FLAGS.items() if is_so(flag)}


def test_these_flags_do_not_decide_the_result_of_a_run_and_all_others_do():
    free = NAMES_AND_PATHS | MACHINE | HOW_PROMPTS_AND_MASKS_COME | SAID_BY_OTHERS | VALIDATION_PROMPTS | ONLY_WATCHED
    free |= ROUNDING | PRESET

    assert flags_where(lambda flag: not flag.decides_result) == free | UPLOAD


def test_these_flags_may_differ_between_the_processes_of_a_run_and_no_others():
    # The validation prompts are compared as they were read.
    may_differ = PRESET | NAMES_AND_PATHS | MACHINE | VALIDATION_PROMPTS | UPLOAD

    assert flags_where(lambda flag: not flag.same_everywhere) == may_differ


def test_these_flags_are_not_repeated_from_a_runs_configuration():
    # The steps stand in for the epochs.
    new = {
        "config",
        "preset",
        "max_restarts",
        "output_dir",
        "resume_from_checkpoint",
        "allow_changed_settings",
        "num_train_epochs",
        "plan",
    }

    assert flags_where(lambda flag: not flag.repeatable) == new | UPLOAD


def test_these_flags_take_a_value_for_each_concept():
    per_concept = {"train_data_dir", "initializer_token", "learnable_property", "num_vectors", "template_file"}
    per_concept |= {"contrast_data_dir"}

    assert flags_where(lambda flag: flag.per_concept) == per_concept
    assert all(FLAGS[name].nargs == "+" for name in per_concept)


def test_the_access_token_is_the_only_secret():
    assert flags_where(lambda flag: flag.is_secret) == {"hub_token"}


def test_infer_and_score_take_these_values_from_the_record_beside_an_embedding():
    where_from = {"tokenizer_name", "revision", "variant", "cache_dir", "train_data_dir", "language"}
    framing = {"height", "width", "resize_mode", "center_crop", "interpolation", "tile_rows"}
    reading = {"vae", "clip_skip", "max_token_length"}

    assert flags_where(lambda flag: flag.is_reused) == where_from | framing | reading


def test_these_paths_are_recorded_so_that_they_hold_in_another_clone():
    portable = {"pretrained_model_name_or_path", "tokenizer_name", "vae", "cache_dir", "train_data_dir", "mask_dir"}
    portable |= {"validation_data_dir", "validation_mask_dir", "contrast_data_dir"}

    assert flags_where(lambda flag: flag.recorded_portably) == portable
    assert all(FLAGS[name].is_path for name in portable)


def test_these_values_are_paths_or_names_that_may_be_paths():
    assert flags_where(lambda flag: flag.is_path) == NAMES_AND_PATHS - {"revision", "variant"} | {
        "resume_from_checkpoint",
        "validation_prompts_file",
    }
    assert flags_where(lambda flag: flag.is_inside_output) == {"logging_dir"}


def test_no_flag_is_declared_in_two_groups():
    names = [field.name for _, cls in groups_of(TrainConfig) for field in dataclasses.fields(cls)]

    assert sorted(names) == sorted(FLAGS)


@pytest.mark.parametrize("name", FLAGS)
def test_every_default_is_allowed(name):
    group = next(cls for _, cls in groups_of(TrainConfig) if name in {f.name for f in dataclasses.fields(cls)})
    flag, default = FLAGS[name], getattr(group(), name)
    for value in default if isinstance(default, tuple) else (default,):
        if value is None or isinstance(value, bool):
            continue
        assert flag.choices is None or value in flag.choices
        assert flag.type is None or flag.type(str(value)) == value


@pytest.mark.parametrize(("scheduler", "steps"), [("constant", 0), ("constant_with_warmup", 7), ("cosine", 7)])
def test_a_constant_schedule_has_no_warm_up(scheduler, steps):
    assert config_of(lr_scheduler=scheduler, lr_warmup_steps=7).training.warmup_steps == steps
