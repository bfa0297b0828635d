"""Settings that go badly together are refused before anything slow."""

import re

import pytest

from helpers.configs import parsed
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.paths import DEMO_MODEL

REAL = ["--pretrained_model_name_or_path", "some/model"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--validation_steps", "5"], "without --validation_prompt"),
        (["--validation_epochs", "5"], "without --validation_prompt"),
        (["--clip_model", "x"], "without --keep_best"),
        (["--clip_model", "x", "--keep_best"], "--clip_model judges validation images; add --validation_prompt"),
        (["--keep_best", "--eval_steps", "0"], "--keep_best has no criterion"),
        (["--hub_model_id", "me/x"], "without --push_to_hub"),
        (["--hub_model_id", "me/x", "--push_to", "none"], "without --push_to_hub or --push_to; add one"),
        (["--push_to_hub", "--push_to", "aistudio"], "contradicts --push_to aistudio; give one of them"),
        (["--push_to_hub", "--push_to", "none"], "contradicts --push_to none; give one of them"),
        (["--push_to", "aistudio"], "--push_to aistudio needs the account and the name of the repository; give --hub"),
        (["--push_to", "aistudio", "--hub_model_id", "cat"], "give --hub_model_id me/my-cat"),
        (["--push_to", "aistudio", "--hub_model_id", "aistudio:me/cat"], "is not a valid repository id"),
        (["--push_to", "huggingface", "--output_dir", "my cat"], "'my cat' is not a valid repository id"),
        (["--hub_whole_pipeline"], "--hub_whole_pipeline needs --push_to_hub"),
        (["--hub_whole_pipeline", "--push_to_hub", "--only_save_embeds"], "leave --only_save_embeds out"),
        (["--hidden_reg_weight", "0.1"], "--hidden_reg_weight pulls towards --initializer_token"),
    ],
)
def test_what_has_no_effect_or_contradicts_is_refused_in_a_line_that_names_it(argv, message):
    with pytest.raises(SettingsError, match=rf"\A[^\n]*{re.escape(message)}[^\n]*\Z"):
        parsed(REAL + argv)


@pytest.mark.parametrize(
    ("argv", "hub"),
    [
        ([], None),
        (["--push_to", "none"], None),
        (["--push_to_hub"], "huggingface"),
        (["--push_to", "huggingface"], "huggingface"),
        (["--push_to_hub", "--push_to", "huggingface"], "huggingface"),
        (["--push_to", "aistudio", "--hub_model_id", "me/cat"], "aistudio"),
    ],
)
def test_the_short_and_the_long_way_to_name_a_hub(argv, hub):
    assert parsed(REAL + argv).whole.hub.uploads_to == hub


@pytest.mark.parametrize("inside", [".", "result", "../base/result"])
def test_the_base_models_folder_is_no_place_for_results(tmp_path, inside):
    (tmp_path / "base").mkdir()
    argv = ["--pretrained_model_name_or_path", str(tmp_path / "base"), "--output_dir", str(tmp_path / "base" / inside)]

    with pytest.raises(SettingsError, match="is never changed"):
        parsed(argv)
    assert not list((tmp_path / "base").iterdir())


def test_no_other_model_is_written_over(tmp_path):
    (tmp_path / "model_index.json").write_text("{}")

    for output in (tmp_path, DEMO_MODEL):
        with pytest.raises(SettingsError, match="--output_dir"):
            parsed([*REAL, "--output_dir", str(output)])
    (tmp_path / "run.json").write_text("{}")  # one that a run of ours has saved
    assert parsed([*REAL, "--output_dir", str(tmp_path)]).output_dir == str(tmp_path)


def test_results_do_not_go_among_the_training_images(tmp_path):
    with pytest.raises(SettingsError, match="--train_data_dir are the same folder"):
        parsed([*REAL, "--output_dir", str(tmp_path), "--train_data_dir", str(tmp_path)])
