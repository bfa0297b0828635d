"""Value ranges and one-line refusals of the commands' parsers."""

import argparse

import pytest

from textual_inversion.cli import convert, generation, parser, train
from textual_inversion.settings import bounds, other_names
from textual_inversion.system import paths
from textual_inversion.system.errors import SettingsError


@pytest.fixture
def tool():
    tool = parser.OneLineParser(prog="tool.py")
    tool.add_argument("--steps", type=bounds.positive_int, default=5)
    tool.add_argument("--share", type=bounds.share, default=0.5)
    tool.add_argument("--fast", action="store_true")
    return tool


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--stesp", "3"], "--stesp is not a flag of tool.py; did you mean --steps?"),
        (["--step", "3"], "--step is not a flag of tool.py; did you mean --steps?"),
        (["--other"], "--other is not a flag of tool.py; see python tool.py --help"),
        (["--steps", "0"], "--steps: must be at least 1, not 0; see python tool.py --help"),
        (["--steps", "x"], "--steps: 'x' is not a whole number; see python tool.py --help"),
        (["--share", "nan"], "--share: must be between 0.0 and 1.0, not nan; see python tool.py --help"),
        (["--steps"], "--steps: expected one argument; see python tool.py --help"),
    ],
)
def test_refusals_say_what_to_do(tool, argv, message):
    with pytest.raises(SettingsError) as caught:
        tool.parse_args(argv)

    assert str(caught.value) == message


def test_explicit_names_what_stands_on_the_command_line_whatever_its_value(tool):
    assert tool.explicit(["--steps", "5", "--fast"]) == {"steps", "fast"}
    assert tool.explicit([]) == set()
    assert tool.parse_args([]).steps == 5  # the defaults are back


@pytest.mark.parametrize("name", ["tpu", "gpu:", "gpu:x", "GPU", "cpu:0"])
def test_unknown_devices_are_refused(name):
    with pytest.raises(argparse.ArgumentTypeError, match="must be cpu, gpu or gpu:N"):
        bounds.device_name(name)


def test_the_demo_is_known_by_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(paths.ROOT)

    assert paths.is_demo("demo/model") and paths.is_demo(str(paths.DEMO_MODEL))
    assert not paths.is_demo(str(tmp_path)) and not paths.is_demo("demo/model-that-is-not-there")


def test_a_switch_can_be_switched_off_again(tool):
    assert tool.parse_args([]).fast is False
    assert tool.parse_args(["--fast"]).fast is True
    assert tool.parse_args(["--fast", "--fast", "false"]).fast is False
    assert tool.parse_args(["--fast=no", "--steps", "3"]).fast is False
    with pytest.raises(SettingsError, match="--fast: must be true or false, not fsle"):
        tool.parse_args(["--fast", "fsle"])


@pytest.mark.parametrize("command", ["train", "infer", "score"])
def test_every_path_flag_knows_the_home_folder(command, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/ann")
    tool = {"train": train.build_parser, "infer": generation.infer_parser, "score": generation.score_parser}[command]()
    paths = [action for action in tool._actions if getattr(action, "flag", None) and action.flag.is_path]
    paths = [action for action in paths if action.dest != "config"]

    assert len(paths) >= 5
    for action in paths:
        parsed = tool.parse_args([f"{action.option_strings[-1]}=~/x"])
        assert getattr(parsed, action.dest) in ("/home/ann/x", ["/home/ann/x"]), action.dest
    (tmp_path / "a.yaml").write_text("tokenizer_name: ~/x\n")
    assert tool.parse_args(["--config", str(tmp_path / "a.yaml")]).tokenizer_name == "/home/ann/x"


# ------------------------------------------------------------------------------------------- names of other programs

PARSERS = {
    "train": train.build_parser(),
    "infer": generation.infer_parser(),
    "convert": convert.build_parser(),
}
ROWS = [row for row in other_names.rows() if row.command in PARSERS and row.name != other_names.FIXED]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.system}-{row.command}-{row.name}")
def test_every_name_of_the_table_is_a_flag_here_or_answered_as_the_table_says(row):
    tool, given = PARSERS[row.command], f"--{row.name}"
    needed = ["x"] if row.command == "convert" else []
    if given in tool._option_string_actions:
        assert row.flag is not None
        return

    with pytest.raises(SettingsError) as caught:
        tool.parse_args([*needed, f"{given}=1"])

    message = str(caught.value)
    assert message.startswith(f"{given} is not a flag of {tool.prog}; ") and "did you mean" not in message
    if row.flag is not None:
        assert row.owner in message and f"is --{row.flag} here" in message and row.note in message
    elif f"{given} is --" not in message:  # another program means a flag that is here, and that is the better answer
        assert row.owner in message and row.note in message


def test_score_and_the_subcommands_answer_too():
    for tool, given, words in (
        (generation.score_parser(), "--cfg_scale", "A1111's --cfg_scale is --guidance_scale here"),
        (generation.score_parser(), "--init_word", "kohya's --init_word is --initializer_token here"),
        (convert.build_parser("inspect"), "--weights", "of train_textual_inversion.py"),
    ):
        with pytest.raises(SettingsError, match=words):
            tool.parse_args([given, "3"])
