"""Value ranges and one-line refusals of the commands' parsers."""

import argparse

import pytest

from textual_inversion import options
from textual_inversion.errors import SettingsError


@pytest.fixture
def parser():
    parser = options.OneLineParser(prog="tool.py")
    parser.add_argument("--steps", type=options.positive_int, default=5)
    parser.add_argument("--share", type=options.share, default=0.5)
    parser.add_argument("--fast", action="store_true")
    return parser


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--stesp", "3"], "--stesp is not a flag of tool.py; did you mean --steps?"),
        (["--step", "3"], "--step is not a flag of tool.py; did you mean --steps?"),
        (["--other"], "--other is not a flag of tool.py; see python tool.py --help"),
        (["--steps", "0"], "--steps: must be at least 1, not 0; see python tool.py --help"),
        (["--steps", "x"], "--steps: 'x' is no whole number; see python tool.py --help"),
        (["--share", "nan"], "--share: must be between 0.0 and 1.0, not nan; see python tool.py --help"),
        (["--steps"], "--steps: expected one argument; see python tool.py --help"),
    ],
)
def test_refusals_say_what_to_do(parser, argv, message):
    with pytest.raises(SettingsError) as caught:
        parser.parse_args(argv)

    assert str(caught.value) == message


def test_explicit_names_what_stands_on_the_command_line_whatever_its_value(parser):
    assert parser.explicit(["--steps", "5", "--fast"]) == {"steps", "fast"}
    assert parser.explicit([]) == set()
    assert parser.parse_args([]).steps == 5  # the defaults are back


@pytest.mark.parametrize("name", ["tpu", "gpu:", "gpu:x", "GPU", "cpu:0"])
def test_unknown_devices_are_refused(name):
    with pytest.raises(argparse.ArgumentTypeError, match="must be cpu, gpu or gpu:N"):
        options.device_name(name)


def test_the_demo_is_known_by_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(options.ROOT)

    assert options.is_demo("demo/model") and options.is_demo(str(options.DEMO_MODEL))
    assert not options.is_demo(str(tmp_path)) and not options.is_demo("demo/model-that-is-not-there")


def test_a_switch_can_be_switched_off_again(parser):
    assert parser.parse_args([]).fast is False
    assert parser.parse_args(["--fast"]).fast is True
    assert parser.parse_args(["--fast", "--fast", "false"]).fast is False
    assert parser.parse_args(["--fast=no", "--steps", "3"]).fast is False
    with pytest.raises(SettingsError, match="--fast: is a switch, true or false, not fsle"):
        parser.parse_args(["--fast", "fsle"])
