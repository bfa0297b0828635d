"""Which program a configuration is of: decided by what it says, never by its name; this program's own are of none."""

import pytest
import yaml

from textual_inversion.cli import foreign_files
from textual_inversion.cli.foreign_files import Setting
from textual_inversion.system.errors import SettingsError


def recognized(text: str, path: str = "a.cfg") -> foreign_files.ForeignFile | None:
    found = foreign_files.of_text(path, text)
    return found or foreign_files.of_yaml(path, yaml.compose(text, Loader=yaml.SafeLoader))


@pytest.mark.parametrize(
    ("text", "system"),
    [
        ("seed = 1", "kohya"),
        ("\n  \n# a comment: with = signs\n[section]  # more\nseed = 1\n", "kohya"),
        ('"quoted key" = 1', "kohya"),
        ("[[datasets]]\nbatch_size = 1", "kohya"),
        ('{"datasets": []}', "kohya"),
        ('{"training_method": "EMBEDDING"}', "OneTrainer"),
        ('  {"base_model_name": "m"}', "OneTrainer"),
        ("type: SD_TEXTUAL_INVERSION\nbase_output_dir: x", "invoke-training"),
        ("optimizer: {}\ntype: SDXL_TEXTUAL_INVERSION", "invoke-training"),
        ("hyperparameters:\n  seed: 1", "Determined"),
        ("seed: 1", None),
        ("# seed = 1\nseed: 1", None),
        ('placeholder_token: "a = b"', None),
        ("[a]: 1", None),
        ("{seed: 1}", None),
        ('{"seed": 1}', None),
        ("type: x", None),
        ("", None),
        ("# nothing", None),
    ],
)
def test_the_content_decides(text, system):
    assert getattr(recognized(text), "system", None) == system


def test_keys_lead_through_tables_and_lists_and_keep_their_values_as_typed():
    found = recognized("hyperparameters:\n  a: 1e-4\n  b: [no, 2]\n  c: null\n  d: [{e: x}, {e: y}]\n  f: ''\n")

    assert found.settings == (
        Setting("hyperparameters.a", ("1e-4",)), Setting("hyperparameters.b", ("no", "2")),
        Setting("hyperparameters.d.e", ("x",)), Setting("hyperparameters.d.e", ("y",)),
    )  # fmt: skip


def test_values_of_toml_and_json_are_texts_too():
    found = recognized("a = true\nb = 1.0\nc = 1e-7\nd = 2026-01-02\ne = [1, 2]\nf = ''\n")

    assert [one.values for one in found.settings] == [("true",), ("1",), ("1e-07",), ("2026-01-02",), ("1", "2")]


def test_many_blank_lines_take_no_time():
    assert recognized("\n" * 200_000 + "seed = 1").system == "kohya"
    assert recognized(" \n" * 100_000 + "seed: 1") is None
    assert recognized("#\n" * 100_000 + "seed: 1") is None


@pytest.mark.parametrize("kind", ["SD_LORA", "SDXL_FINETUNE", "x" * 1000])
def test_configurations_for_something_else_are_refused(kind):
    with pytest.raises(SettingsError, match="not for textual inversion") as caught:
        recognized(f"type: {kind}\nbase_output_dir: x")
    assert len(str(caught.value)) < 300
