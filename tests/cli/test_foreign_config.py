"""Configurations of other trainers, given to `--config`: understood by value, the rest named, hostile ones refused."""

import json
import os
import time
from pathlib import Path

import pytest

from helpers.configs import flat
from textual_inversion.cli import foreign_config, foreign_files, generation
from textual_inversion.cli.train import build_parser, parse
from textual_inversion.settings.flag import values_of
from textual_inversion.system.errors import SettingsError

DETERMINED = """
name: our_experiment
entrypoint: python3 -m determined.launch.torch_distributed python3 finetune.py
searcher:
  name: single
  metric: loss
  max_length: 400
resources:
  slots_per_trial: 2
environment:
  environment_variables:
    - HF_AUTH_TOKEN=YOUR_HF_AUTH_TOKEN_HERE
    - OTHER=1
checkpoint_storage:
  save_trial_latest: 5
hyperparameters:
  model:
    pretrained_model_name_or_path: some/model
  concepts:
    learnable_properties: [object, style]
    concept_strs: [<mug>, <ink>]
    initializer_strs:
      - red coffee mug
      - ink drawing
    img_dirs: [mugs, inks]
    img_size: 512
    interpolation: bicubic
    flip_p: 0.0
    center_crop: True
    append_file_name_to_text: True
    file_name_split_char: '-'
    num_blank_prompts: 10
  training:
    train_batch_size: 2
    gradient_accumulation_steps: 4
    optimizer_name: adam
    learning_rate: 5e-4
    scale_lr: True
    checkpoint_freq: 100
    train_seed: 2147483647
    beta_start: 0.00085
    hidden_reg_weight: 1e-5
    latent_reg_weight: null
  inference:
    images_per_prompt: 3
    inference_scheduler_name: pndm
    inference_prompts:
      - a watercolor of a <mug>
      - a <mug> in the style of <ink>
    guidance_scale: 7.0
"""

KOHYA = """
# settings in tables, whose names do not matter
[model]
pretrained_model_name_or_path = "base.safetensors"
[data]
dataset_config = "data.toml"
[network]
token_string = "mychar"
init_word = "cute girl"
num_vectors_per_token = 4
use_style_template = true
[training]
output_dir = "made"
max_train_steps = 1600
learning_rate = 1e-3
lr_scheduler = "cosine_with_restarts"
lr_scheduler_num_cycles = 2
lr_warmup_steps = 100
optimizer_type = "AdamW"
optimizer_args = ["weight_decay=0.1", "betas=0.9,0.99"]
max_grad_norm = 0
min_snr_gamma = 5
ip_noise_gamma = 0.1
huber_c = 0.1
save_every_n_steps = 200
sample_every_n_steps = 50
mixed_precision = "fp16"
seed = 42
xformers = true
clip_skip = 2
weighted_captions = false
our_own_key = 1
"""
KOHYA_DATA = """
[general]
enable_bucket = true
shuffle_caption = true
flip_aug = true
[[datasets]]
resolution = [512, 768]
batch_size = 4
  [[datasets.subsets]]
  image_dir = "photos"
  num_repeats = 10
  [[datasets.subsets]]
  image_dir = "more photos"
  num_repeats = 10
  [[datasets.subsets]]
  is_reg = true
  image_dir = "girls"
"""

INVOKE = """
type: SDXL_TEXTUAL_INVERSION
seed: 1
base_output_dir: output/ti
optimizer:
  optimizer_type: AdamW
  learning_rate: 2e-3
  weight_decay: 0.01
  use_8bit: False
lr_warmup_steps: 200
lr_scheduler: cosine
data_loader:
  type: TEXTUAL_INVERSION_SD_DATA_LOADER
  dataset:
    type: IMAGE_DIR_DATASET
    dataset_dir: "photos"
    keep_in_memory: True
  caption_preset: object
  resolution: 1024
  center_crop: True
  random_flip: False
  shuffle_caption_delimiter: null
  dataloader_num_workers: 4
model: some/xl
vae_model: some/vae
num_vectors: 4
placeholder_token: "my_gnome"
initializer_token: "gnome"
weight_dtype: bfloat16
gradient_checkpointing: True
max_train_steps: 2000
save_every_n_steps: 200
validate_every_n_steps: 100
max_checkpoints: 20
validation_prompts:
  - A photo of my_gnome
train_batch_size: 1
num_validation_images_per_prompt: 3
"""

ONETRAINER = {
    "training_method": "EMBEDDING",
    "model_type": "STABLE_DIFFUSION_15",
    "base_model_name": "some/model",
    "concept_file_name": "concepts.json",
    "additional_embeddings": [{"placeholder": "<b>", "token_count": 3}],
    "embedding": {"placeholder": "<a>", "initial_embedding_text": "cat"},
    "learning_rate": 0.003,
    "embedding_learning_rate": 0.001,
    "learning_rate_scheduler": "CONSTANT",
    "learning_rate_warmup_steps": 20.0,
    "learning_rate_cycles": 1.0,
    "batch_size": 2,
    "epochs": 30,
    "resolution": "512",
    "aspect_ratio_bucketing": True,
    "train_dtype": "BFLOAT_16",
    "unet": {"weight_dtype": "FLOAT_16", "gradient_checkpointing": True},
    "loss_weight_fn": "MIN_SNR_GAMMA",
    "loss_weight_strength": 4.0,
    "offset_noise_weight": 0.05,
    "clip_grad_norm": None,
    "optimizer": {"optimizer": "ADAMW", "beta1": 0.9, "beta2": 0.98, "fused": True},
    "save_every": 100,
    "save_every_unit": "STEP",
    "sample_after": 10,
    "sample_after_unit": "MINUTE",
    "samples": [{"prompt": "a <a>", "enabled": True, "seed": 3}, {"prompt": "no", "enabled": False}],
    "preserve_embedding_norm": True,
    "our_own_key": 1,
}
CONCEPTS = [
    {"path": "cats", "enabled": True, "type": "STANDARD", "image": {"enable_random_flip": False}},
    {"path": "dogs", "enabled": True, "type": "STANDARD", "image": {"enable_random_flip": False}},
    {"path": "off", "enabled": False},
    {"path": "prior", "type": "PRIOR_PREDICTION"},
]


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Writes files, and returns what the first of them is understood as."""
    monkeypatch.chdir(tmp_path)

    def understand(name: str, text: str, *more: str, command=parse, **others: str):
        Path(name).write_text(text, encoding="utf-8")
        for other, content in others.items():
            Path(other.replace("_", ".")).write_text(content, encoding="utf-8")
        return command(["--config", name, *more])

    return understand


def values(config, *names):
    """The given flags of a configuration that are named, by name."""
    return {name: values_of(config)[name] for name in names}


def named(config) -> str:
    (line,) = config.notes
    return line


def test_determineds_example_is_understood_by_value(given):
    config = given("anything.txt", DETERMINED)

    expected = {
        "pretrained_model_name_or_path": "some/model", "placeholder_token": ("<mug>", "<ink>"),
        "initializer_token": ("red coffee mug", "ink drawing"), "num_vectors": ("auto", "auto"),
        "learnable_property": ("object", "style"), "train_data_dir": ("mugs", "inks"), "resolution": 512,
        "interpolation": "bicubic", "flip_p": 0.0, "center_crop": True, "append_file_name_to_text": True,
        "file_name_split_char": "-", "train_batch_size": 2, "gradient_accumulation_steps": 4, "optimizer": "adam",
        "learning_rate": 5e-4, "scale_lr": True, "save_steps": 100, "seed": 2147483647, "max_train_steps": 400,
        "num_blank_prompts": 10, "scheduler": "pndm", "hidden_reg_weight": 1e-5,
        "num_validation_images": 3, "checkpoints_total_limit": 5, "guidance_scale": 7.0,
        "validation_prompt": ("a watercolor of a <mug>", "a <mug> in the style of <ink>"),
    }  # fmt: skip
    assert values(config, *expected) == expected
    assert config.given == {*expected, "config"}
    assert "a configuration of Determined's example" in named(config)
    for key in (
        "environment (HF_AUTH_TOKEN)",
        "environment (environment_variables)",
        "beta_start",
        "slots_per_trial",
        "entrypoint",
    ):
        assert key in named(config)
    assert "hub_token" not in config.given and "latent_reg_weight" not in named(config)


def test_determineds_token_is_taken_but_for_the_one_of_the_example_and_is_never_named(given):
    config = given("a.yaml", DETERMINED.replace("YOUR_HF_AUTH_TOKEN_HERE", "hf_secret"))

    assert config.hub.hub_token == "hf_secret"
    assert "hf_secret" not in named(config)


@pytest.mark.parametrize("spelled", ["max_length: 250", "max_length: {batches: 250}", "num_sgd_steps: 250"])
def test_determineds_steps_are_spelled_in_several_ways(given, spelled):
    config = given("a.yaml", DETERMINED.replace("max_length: 400", spelled))

    assert config.training.max_train_steps == 250


def test_kohyas_toml_and_its_data_set_are_understood_by_value(given):
    config = given("run.yaml", KOHYA, data_toml=KOHYA_DATA)

    expected = {
        "pretrained_model_name_or_path": "base.safetensors", "placeholder_token": ("mychar",),
        "initializer_token": ("cute girl",), "num_vectors": (4,), "learnable_property": ("style",),
        "no_captions": True, "output_dir": "made", "max_train_steps": 1600, "learning_rate": 1e-3,
        "lr_scheduler": "cosine_with_restarts", "lr_num_cycles": 2, "lr_warmup_steps": 100, "optimizer": "adamw",
        "adam_weight_decay": 0.1, "adam_beta1": 0.9, "adam_beta2": 0.99, "max_grad_norm": -1.0, "snr_gamma": 5.0,
        "input_perturbation": 0.1, "save_steps": 200, "mixed_precision": "fp16", "seed": 42,
        "resize_mode": "bucket", "flip_p": 0.5, "width": 512, "height": 768, "train_batch_size": 4,
        "train_data_dir": ("photos",), "repeats": 10, "clip_skip": 2, "shuffle_caption": True,
    }  # fmt: skip
    assert values(config, *expected) == expected
    assert config.given == {*expected, "config"}
    for key in ("xformers", "huber_c", "sample_every_n_steps", "is_reg"):
        assert key in named(config).partition("unknown:")[0]
    assert "image_dir (all but the first)" in named(config)
    assert "unknown: training (our_own_key)" in named(config)
    assert "weighted_captions" not in named(config), "it is off there as it is here"
    assert "girls" not in named(config) + str(config)


def test_a_data_set_alone_in_toml_and_in_json_says_the_same(given):
    toml = given("data.toml", KOHYA_DATA, "--placeholder_token", "<a>", "--pretrained_model_name_or_path", "m")
    data = {
        "general": {"enable_bucket": True, "shuffle_caption": True, "flip_aug": True},
        "datasets": [{"resolution": [512, 768], "batch_size": 4, "subsets": [
            {"image_dir": "photos", "num_repeats": 10}, {"image_dir": "more photos", "num_repeats": 10},
            {"is_reg": True, "image_dir": "girls"}]}],
    }  # fmt: skip
    in_json = given("data.json", json.dumps(data), "--placeholder_token", "<a>", "--pretrained_model_name_or_path", "m")

    assert toml.images == in_json.images and toml.concept == in_json.concept and toml.training == in_json.training
    assert toml.images.resize_mode == "bucket" and toml.concept.train_data_dir == ("photos",)


def test_the_data_set_is_found_beside_the_configuration_too(given, tmp_path):
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "data.toml").write_text(KOHYA_DATA)

    config = given("else/run.toml", KOHYA)

    assert config.concept.train_data_dir == ("photos",)


def test_epochs_win_over_steps_as_they_do_there(given):
    config = given("a.toml", 'token_string = "x"\nmax_train_epochs = 7\nmax_train_steps = 50\n' + "seed = 1\n")

    assert config.training.num_train_epochs == 7 and "max_train_steps" not in config.given
    assert "not taken over: max_train_steps" in named(config)


def test_invoke_trainings_yaml_is_understood_by_value(given):
    config = given("a.json", INVOKE)

    expected = {
        "pretrained_model_name_or_path": "some/xl", "seed": 1, "output_dir": "output/ti", "optimizer": "adamw",
        "learning_rate": 2e-3, "adam_weight_decay": 0.01, "lr_warmup_steps": 200, "lr_scheduler": "cosine",
        "train_data_dir": ("photos",), "learnable_property": ("object",), "resolution": 1024, "center_crop": True,
        "flip_p": 0.0, "dataloader_num_workers": 4, "num_vectors": (4,), "placeholder_token": ("my_gnome",),
        "initializer_token": ("gnome",), "mixed_precision": "bf16", "gradient_checkpointing": True,
        "max_train_steps": 2000, "save_steps": 200, "validation_steps": 100, "checkpoints_total_limit": 20,
        "validation_prompt": ("A photo of my_gnome",), "train_batch_size": 1, "num_validation_images": 3,
        "vae": "some/vae",
    }  # fmt: skip
    assert values(config, *expected) == expected
    assert config.given == {*expected, "config"}
    assert "not taken over" not in named(config)
    assert "data_loader.dataset (type, keep_in_memory)" in named(config)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("center_crop: True", "center_crop: False"), {"resize_mode": "random_crop", "center_crop": False}),
        (("resolution: 1024", "resolution: [512, 768]"), {"height": 512, "width": 768}),
        (("  random_flip: False", "  random_flip: True"), {"flip_p": 0.5}),
        (("  random_flip: False", "  aspect_ratio_buckets: {target_resolution: 640}"),
         {"resize_mode": "bucket", "center_crop": False, "resolution": 640}),
        (("seed: 1", "min_snr_gamma: 5.0"), {"snr_gamma": 5.0}),
    ],
)  # fmt: skip
def test_values_that_mean_otherwise_are_converted(given, change, expected):
    assert change[0] in INVOKE
    config = given("a.yaml", INVOKE.replace(*change))

    assert values(config, *expected) == expected


def test_onetrainers_preset_and_its_concepts_are_understood_by_value(given):
    config = given("a.toml", json.dumps(ONETRAINER), concepts_json=json.dumps(CONCEPTS))

    expected = {
        "pretrained_model_name_or_path": "some/model", "placeholder_token": ("<a>", "<b>"),
        "initializer_token": ("cat", "*"), "num_vectors": (1, 3), "train_data_dir": ("cats", "dogs"), "flip_p": 0.0,
        "learning_rate": 0.001, "lr_scheduler": "constant_with_warmup", "lr_warmup_steps": 20, "lr_num_cycles": 1,
        "train_batch_size": 2, "num_train_epochs": 30, "resolution": 512, "resize_mode": "bucket",
        "mixed_precision": "bf16", "gradient_checkpointing": True, "snr_gamma": 4.0, "noise_offset": 0.05,
        "optimizer": "adamw", "adam_beta1": 0.9, "adam_beta2": 0.98, "save_steps": 100, "validation_prompt": ("a <a>",),
    }  # fmt: skip
    assert values(config, *expected) == expected
    assert config.given == {*expected, "config"}
    before, _, unknown = named(config).partition("unknown: ")
    for key in ("sample_after", "preserve_embedding_norm", "model_type", "learning_rate"):
        assert key in before
    assert unknown.startswith("our_own_key, unet (weight_dtype), optimizer (fused), samples (seed)") or all(
        key in unknown for key in ("our_own_key", "weight_dtype", "fused", "seed")
    )
    assert "unit" not in named(config) and "enabled" not in named(config) and "training_method" not in named(config)


def test_every_key_is_either_taken_or_named_once(given):
    """Of every file above: the keys that stand in no note are those that decided a flag, or were off or empty."""
    for text in (DETERMINED, INVOKE):
        config = given("a.yaml", text)
        foreign = foreign_files.of_yaml("a.yaml", _composed(text))
        words = named(config).replace("(", " ").replace(")", " ").replace(",", " ").replace(";", " ").split()
        lost = [one.key for one in foreign.settings if one.key.rpartition(".")[2] not in words]

        assert len(lost) >= len(config.given) - 2  # without config, and num_vectors auto
        for key in lost:
            assert foreign_config._row(foreign.system, key) is not None, key


def _composed(text: str):
    import yaml

    return yaml.compose(text, Loader=yaml.SafeLoader)


def test_the_command_line_wins_over_such_a_file(given):
    config = given("a.yaml", INVOKE, "--learning_rate", "0.5", "--gradient_checkpointing", "false")

    assert config.training.learning_rate == 0.5 and config.machine.gradient_checkpointing is False


def test_other_commands_say_whose_file_it_is_and_what_they_take(given):
    for command in (generation.parse_infer, generation.parse_score):
        with pytest.raises(SettingsError, match="training configuration of invoke-training, for train_textual_inver"):
            given("a.yaml", INVOKE, command=command)


def test_files_of_this_program_are_read_as_before(given):
    for text in ("seed: 5\n", "{seed: 5}", '{"seed": 5}', "---\nseed: 5\n", "training:\n  seed: 5\n"):
        config = given("a.toml", text, "--pretrained_model_name_or_path", "m", "--train_data_dir", "d")

        assert config.training.seed == 5 and config.notes == ()


def test_a_key_of_another_program_in_a_file_of_this_one_is_answered_as_on_the_command_line(given):
    with pytest.raises(SettingsError) as caught:
        given("a.yaml", "seed: 1\ntoken_string: x\n")

    assert str(caught.value).startswith("a.yaml, line 2: token_string is not a setting of train_textual_inversion.py; ")
    assert "kohya's token_string is --placeholder_token here" in str(caught.value)


# ------------------------------------------------------------------------------------------------------ hostile files

BILLION = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(9)
)
HOSTILE = {
    "a bomb of aliases": "hyperparameters: {seed: 1}\n" + BILLION,
    "an alias of itself": "hyperparameters: &a [*a]\n",
    "deep YAML": "hyperparameters: " + "{a: " * 60 + "1" + "}" * 60,
    "very deep YAML": "hyperparameters: " + "[" * 20_000,
    "deep TOML": "a = " + "[" * 50_000,
    "deep tables of TOML": "a" + ".a" * 40 + " = 1",
    "a key of many parts": "a" + ".a" * 60_000 + " = 1",
    "a long number": "seed = " + "9" * 5000,
    "a list for a number": "seed = [1, 2]\n",
    "a table for a number": "token_string = 'x'\n[seed]\na = [1, {b = 2}]\n[learning_rate]\nseed = 'x'\n",
    "a word for a switch": 'enable_bucket = "maybe"\n',
    "a word for a number": 'lr_warmup_steps = "some"\n',
    "infinity": "lr_warmup_steps = inf\n",
    "not a number": "lr_warmup_steps = nan\n",
    "a learning rate of nan": "learning_rate = nan\n",
    "damaged TOML": 'token_string = "x\n',
    "nothing known": "x = 1\ny = 2\n",
    "a number for a folder": "dataset_config = 7\nx = 1\n",
    "a data set that is missing": 'token_string = "x"\ndataset_config = "no.toml"\n',
    "a data set that is a folder": 'token_string = "x"\ndataset_config = "/"\n',
    "a data set of odd name": 'token_string = "x"\ndataset_config = "a\\u0000b"\n',
    "a data set that never ends": 'token_string = "x"\ndataset_config = "/dev/zero"\n',
    "datasets of another type": '{"datasets": [1, [2], {"subsets": 3}, {"subsets": [4, {"image_dir": {"a": 1}}]}]}',
    "another method": '{"training_method": "LORA", "base_model_name": "m"}',
    "a method of another type": '{"training_method": {"a": [1]}, "base_model_name": "m"}',
    "concepts of another type": '{"base_model_name": "m", "concepts": {"path": [[[["a"]]]]}, "resolution": "a,b,c"}',
    "a control character": '{"base_model_name": "m", "embedding": {"placeholder": "a\\u0000b"}}',
    "half of a character": '{"base_model_name": "m\\ud800"}',
    "another type of invoke": "type: SD_LORA\nbase_output_dir: x\noptimizer: {learning_rate: 1}\n",
    "a type of escapes": 'type: "SD_\\e[31mLORA"\nbase_output_dir: x\n',
    "a name of escapes": 'hyperparameters: {"\\e[31mx": 1}\n',
    "a value like a flag": "hyperparameters:\n  inference_prompts: ['--output_dir', '/x']\n",
    "a weight of the wrong size": "hyperparameters: {flip_p: 7}\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_end_in_one_line_and_soon(given, name):
    began = time.process_time()
    with pytest.raises(SettingsError) as caught:
        given("a.cfg", HOSTILE[name])

    message = str(caught.value)
    assert time.process_time() - began < 5
    assert "\n" not in message and "\x1b" not in message and len(message) < 1000
    assert "a.cfg" in message or "dataset_config" in message or "NUL" in message


def test_a_flood_of_unknown_keys_is_cut(given):
    config = given("a.toml", 'token_string = "x"\n' + "".join(f"k{i} = 1\n" for i in range(5000)))

    assert "k399" in named(config) and "k401" not in named(config) and "and 4600 more" in named(config)


def test_a_data_set_is_read_as_other_files_of_users_are(given):
    os.mkfifo("pipe")

    with pytest.raises(SettingsError, match="cannot be read"):
        given("a.toml", 'token_string = "x"\ndataset_config = "pipe"\n')


def test_the_run_says_what_it_took(given):
    parser = build_parser()
    Path("a.yaml").write_text(INVOKE)
    parser.parse_args(["--config", "a.yaml"])
    assert len(parser.notes) == 1
    parser.parse_args(["--seed", "1"])
    assert parser.notes == []
    assert flat(parse(["--config", "a.yaml"])).whole.notes


OPTIMIZING_IN_KOHYA = """
[training]
pretrained_model_name_or_path = "base"
token_string = "mychar"
learning_rate = 1.0
optimizer_type = "{optimizer}"
optimizer_args = [{arguments}]
loss_type = "huber"
huber_c = 0.2
huber_scale = 2
noise_offset = 0.1
multires_noise_iterations = 6
multires_noise_discount = 0.4
"""


def test_kohyas_optimizing_is_understood_by_value_and_what_excludes_itself_is_named(given):
    arguments = '"decouple=True", "weight_decay=0.01", "d_coef=2", "betas=0.9,0.99"'
    text = OPTIMIZING_IN_KOHYA.format(optimizer="Prodigy", arguments=arguments)
    config = given("run.toml", text)

    expected = {
        "optimizer": "prodigy", "adam_weight_decay": 0.01, "d_coef": 2.0, "adam_beta2": 0.99, "learning_rate": 1.0,
        "loss_type": "huber", "huber_c": 0.2, "huber_schedule": "snr", "huber_scale": 1.0, "noise_offset": 0.0,
        "multires_noise_iterations": 6, "multires_noise_discount": 0.4,
    }  # fmt: skip
    assert values(config, *expected) == expected
    assert "huber_scale" in named(config) and "noise_offset" in named(config)

    told = given("run.toml", text + 'huber_schedule = "exponential"')
    assert (told.objective.huber_schedule, told.objective.huber_scale) == ("exponential", 2.0)
    assert "huber" not in named(told) and "loss_type" not in named(told)

    lion = given("run.toml", OPTIMIZING_IN_KOHYA.format(optimizer="Lion", arguments='"d_coef=2"'))
    assert lion.optimizer.optimizer == "lion" and lion.optimizer.d_coef == 1.0


@pytest.mark.parametrize("optimizer", ["PRODIGY", "ADAFACTOR", "LION", "DADAPT_ADAM", "ADAMW"])
def test_onetrainers_optimizers_are_understood_with_whatever_stands_beside_them(given, optimizer):
    own = {
        "optimizer": optimizer,
        "d0": 1e-06,
        "d_coef": 2.0,
        "scale_parameter": True,
        "relative_step": False,
        "warmup_init": False,
        "use_bias_correction": True,
        "weight_decay": 0.01,
        "eps": 1e-30,
        "decouple": True,
    }
    preset = {"training_method": "EMBEDDING", "base_model_name": "base", "embedding_learning_rate": 0.5,
              "optimizer": own, "ema": "GPU", "ema_decay": 0.99, "ema_update_step_interval": 1}  # fmt: skip

    config = given("preset.json", json.dumps(preset))

    name = optimizer.lower()
    found = config.optimizer
    assert (found.optimizer, found.adam_weight_decay, config.training.learning_rate) == (name, 0.01, 0.5)
    assert (found.use_ema, found.ema_decay) == (True, 0.99)
    assert found.d0 == 1e-06 and found.d_coef == (2.0 if name == "prodigy" else 1.0)
    assert found.adafactor_scale_parameter == (name == "adafactor")
    assert found.adam_epsilon == (1e-08 if name == "adafactor" else 1e-30)
    assert "use_bias_correction" in named(config).partition("unknown:")[0]
