"""`--preset`: settings that come with the program, each with its reason, below whatever the user says."""

import json

import pytest
import yaml

import train_textual_inversion
from helpers.configs import flat, parsed
from helpers.training_runs import short_run
from textual_inversion import api
from textual_inversion.settings.choices import PRESETS
from textual_inversion.settings.flag import all_flags, values_of
from textual_inversion.settings.train import TrainConfig
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.paths import PRESET_FOLDER

REAL = ["--pretrained_model_name_or_path", "some/model"]


def text_of(preset):
    return (PRESET_FOLDER / f"{preset}.yaml").read_text(encoding="utf-8")


def said_by(preset):
    return yaml.safe_load(text_of(preset))


def plain(value):
    """A flag's value as YAML has it: a flag of one value for each concept has one here."""
    return value[0] if isinstance(value, tuple) and len(value) == 1 else value


def test_the_values_of_the_flag_are_the_files_of_the_folder():
    assert {path.stem for path in PRESET_FOLDER.iterdir()} == set(PRESETS)


@pytest.mark.parametrize("preset", PRESETS)
def test_each_loads_and_sets_what_it_says(preset):
    read = parsed([*REAL, "--preset", preset])

    assert {name: plain(getattr(read, name)) for name in said_by(preset)} == said_by(preset)
    assert read.given >= said_by(preset).keys()


def test_one_for_the_card_one_for_the_images_and_one_for_the_way_go_together():
    ways = [[card, images, way] for card in PRESETS[:4] for images in ("style", "face", "logo") for way in PRESETS[7:]]
    for names in ways:
        read = parsed([*REAL, "--preset", *names])
        assert read.given >= set().union(*map(said_by, names)), names


@pytest.mark.parametrize("preset", PRESETS)
def test_every_value_is_another_one_than_the_default(preset):
    defaults = values_of(TrainConfig())

    assert [name for name, value in said_by(preset).items() if plain(defaults[name]) == value] == []


@pytest.mark.parametrize("preset", PRESETS)
def test_a_reason_stands_above_every_value_and_what_was_measured_is_said_first(preset):
    lines = text_of(preset).splitlines()
    settings = [number for number, line in enumerate(lines) if line and not line.startswith("#")]

    assert settings and len(settings) == len(said_by(preset))
    for number in settings:
        reason = lines[number - 1].removeprefix("# ")
        assert lines[number - 1].startswith("# ") and len(reason) > 10, lines[number]
        if reason.startswith("See "):
            assert reason[len("See ") :].rstrip(".") in said_by(preset)
    if not preset.startswith(("style", "face", "logo")):  # what they say of the images needs no measurement
        head = text_of(preset).partition("\n\n")[0]
        assert "not measured" in head or "was measured" in head or "it was not" in head


def test_a_preset_stands_above_the_defaults_those_of_the_demo_included():
    read = parsed(["--preset", "fast"])

    assert (read.learning_rate, read.max_train_steps) == (0.01, 200)
    assert read.adam_weight_decay == 1.0  # of the demo, of which the preset says nothing
    assert "learning_rate" not in read.demo_defaults


def test_the_command_line_and_a_configuration_win_over_it(tmp_path):
    (tmp_path / "run.yaml").write_text("learning_rate: 0.5\npreset: [fast]\n", encoding="utf-8")

    read = parsed([*REAL, "--config", str(tmp_path / "run.yaml"), "--max_train_steps", "7"])

    assert (read.learning_rate, read.max_train_steps, read.save_steps) == (0.5, 7, 50)
    other = parsed([*REAL, "--config", str(tmp_path / "run.yaml"), "--preset", "face"])
    assert (other.save_steps, other.flip_p) == (500, 0.0)  # the command line's preset, in place of the file's


def test_a_switch_of_a_preset_can_be_switched_off():
    assert not parsed([*REAL, "--preset", "fast", "--antithetic_noise", "false"]).antithetic_noise


@pytest.mark.parametrize(
    "instead, dropped, kept",
    [
        (["--center_crop"], "resize_mode", {"center_crop": True}),
        (["--num_train_epochs", "3"], "max_train_steps", {"num_train_epochs": 3}),
    ],
)
def test_a_preset_gives_way_to_the_flag_that_says_the_same_in_another_way(instead, dropped, kept):
    read = parsed([*REAL, "--preset", "style", "fast", *instead])

    assert dropped not in read.given
    assert {name: getattr(read, name) for name in kept} == kept


def test_several_are_combined_and_the_run_says_in_one_line_what_they_set():
    read = parsed([*REAL, "--preset", "fast", "face", "fast", "--save_steps", "9"])

    assert (read.lr_scheduler, read.learnable_property, read.save_steps) == ("cosine", ("face",), 9)
    (line,) = read.whole.notes
    assert line.startswith("preset fast, face: --learning_rate 0.01 ") and "--flip_p 0.0" in line
    assert "save_steps" not in line


def test_two_that_disagree_are_refused_in_a_line_unless_the_user_decides():
    with pytest.raises(SettingsError) as refused:
        parsed([*REAL, "--preset", "style", "face", "--save_steps", "5"])

    assert str(refused.value) == (
        "--preset style face: both set --learnable_property, style says style and face says face; give "
        "--learnable_property yourself, or one of the presets"
    )
    own = ["--learnable_property", "object", "--initializer_token", "x", "--resize_mode", "bucket"]
    assert parsed([*REAL, "--preset", "style", "face", *own]).learnable_property == ("object",)


def test_an_unknown_one_lists_those_that_there_are():
    with pytest.raises(SettingsError) as refused:
        parsed(["--preset", "quick"])

    assert "quick" in str(refused.value) and all(preset in str(refused.value) for preset in PRESETS)


def test_python_takes_them_too():
    config = api.train_config(pretrained_model_name_or_path="some/model", preset=["fast", "logo"])

    assert (flat(config).lr_scheduler, flat(config).interpolation) == ("cosine", "lanczos")
    assert len(config.notes) == 1


@pytest.mark.slow
def test_a_run_records_its_presets_and_its_own_file_repeats_it_without_them(tmp_path, capsys):
    argv = short_run(tmp_path, "--preset", "fast", "--only_save_embeds")
    train_textual_inversion.main(argv)

    assert "note: preset fast: --lr_scheduler cosine --timestep_sampling stratified" in capsys.readouterr().out
    recorded = json.loads((tmp_path / "out" / "run.json").read_text())["settings"]
    assert recorded["preset"] in ("fast", ["fast"]) and recorded["timestep_sampling"] == "stratified"
    assert "- presets: `fast`" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    text = (tmp_path / "out" / "config.yaml").read_text(encoding="utf-8")
    assert "# Its presets, whose values stand below: fast\n" in text
    again = parsed(["--config", str(tmp_path / "out" / "config.yaml")])
    differing = {"config", "preset", "output_dir", "report_to"}
    first = values_of(train_textual_inversion.parse(argv))
    assert {name: value for name, value in values_of(again.whole).items() if name not in differing} == {
        name: value for name, value in first.items() if name not in differing
    }
    assert again.preset is None and set(all_flags(TrainConfig)) > differing
