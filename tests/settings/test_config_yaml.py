"""The file that repeats a run: what is written in it, what stands in comments, what is left out."""

from dataclasses import replace

import pytest
import yaml

from helpers.configs import config_of
from textual_inversion.settings import config_yaml
from textual_inversion.settings.flag import all_flags, groups_of
from textual_inversion.settings.train import TrainConfig
from textual_inversion.system.errors import OutputError

PROGRAM = "train_textual_inversion.py"


def written(folder, *given, demo_defaults=None, processes=1, **flags):
    """(what the file says, its text)."""
    config = replace(config_of(**flags), given=frozenset(given), demo_defaults=demo_defaults or {})
    text = config_yaml.write(folder, config, PROGRAM, processes).read_text(encoding="utf-8")
    return yaml.safe_load(text), text


def test_it_says_what_was_given_drawn_or_set_by_the_demo_and_the_rest_in_comments(tmp_path):
    said, text = written(
        tmp_path, "learning_rate", demo_defaults={"eval_steps": 5}, learning_rate=0.1, eval_steps=5, seed=7, repeats=3
    )

    assert said == {"learning_rate": 0.1, "eval_steps": 5, "seed": 7, "max_train_steps": 5000}
    commented = yaml.safe_load("\n".join(line[2:] for line in text.splitlines() if line.startswith("# repeats")))
    assert commented == {"repeats": 3}


def test_every_flag_stands_there_once_under_its_group_but_for_those_that_are_not_repeatable(tmp_path):
    _, text = written(tmp_path, "seed", seed=1)

    flags = all_flags(TrainConfig)
    for name, flag in flags.items():
        lines = [line for line in text.splitlines() if line.removeprefix("# ").startswith(f"{name}:")]
        assert len(lines) == flag.repeatable, name
    titles = [f"# {cls.title}" for _, cls in groups_of(TrainConfig) if cls.title not in ("configuration", "hub")]
    assert [line for line in text.splitlines() if line in titles] == titles


def test_secrets_and_uploads_are_not_written_even_where_they_were_given(tmp_path):
    given = {"hub_token": "hf_secret", "push_to_hub": True, "output_dir": "there"}

    said, text = written(tmp_path, *given, **given)

    assert "hf_secret" not in text and not said.keys() & given.keys()


def test_paths_that_exist_become_absolute_and_names_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("images", "logs"):
        (tmp_path / name).mkdir()
    given = {"train_data_dir": ("images", "later"), "tokenizer_name": "owner/name", "logging_dir": "logs"}

    said, _ = written(tmp_path, *given, **given)

    assert (
        said.items()
        >= {
            "train_data_dir": [str((tmp_path / "images").resolve()), "later"],
            "tokenizer_name": "owner/name",
            "logging_dir": "logs",  # counts from the output folder
        }.items()
    )


@pytest.mark.parametrize(("processes", "is_told"), [(1, False), (2, True)])
def test_the_first_lines_say_how_to_repeat_it(tmp_path, processes, is_told):
    _, text = written(tmp_path, processes=processes)

    assert text.startswith(f"# Repeats a run: python {PROGRAM} --config THIS_FILE\n")
    assert ("It ran in 2 processes" in text) == is_told


def test_a_users_own_file_stays_and_one_of_ours_is_replaced(tmp_path):
    own, other = tmp_path / config_yaml.FILE_NAME, tmp_path / config_yaml.OTHER_NAME
    own.write_text("seed: 1\n")

    for seed in (2, 3):
        assert config_yaml.write(tmp_path, config_of(seed=seed), PROGRAM) == other
        assert yaml.safe_load(other.read_text())["seed"] == seed
    assert own.read_text() == "seed: 1\n"


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        config_yaml.write(tmp_path / "missing", config_of(), PROGRAM)
