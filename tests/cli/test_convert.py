"""The command lines of convert.py: what is a subcommand, what is a file, and what must be given."""

import pytest

from textual_inversion.cli.convert import SUBCOMMANDS, build_parser, parse
from textual_inversion.formats.targets import TARGETS
from textual_inversion.settings.convert import ConvertConfig, DoctorConfig, InspectConfig, MixConfig
from textual_inversion.system.errors import SettingsError


def test_files_stand_before_or_between_the_flags():
    first = parse(["a.pt", "b.bin", "--to", "kohya", "--output", "out", "--rename", "a=<a>", "b=<b>"])
    second = parse(["--to", "kohya", "--rename", "a=<a>", "b=<b>", "--output", "out", "a.pt", "b.bin"])

    assert first == second and isinstance(first, ConvertConfig)
    assert first.files.files == ("a.pt", "b.bin") and first.files.rename == ("a=<a>", "b=<b>")
    assert (first.output.to, first.output.output, first.output.half, first.output.cover) == (
        "kohya",
        "out",
        False,
        None,
    )


def test_the_first_word_may_be_a_subcommand_and_no_other_word_is_one():
    assert isinstance(parse(["inspect", "a.pt", "--json"]), InspectConfig)
    assert isinstance(parse(["doctor", "a.pt", "b.pt"]), DoctorConfig)
    assert parse(["inspect", "inspect"]).files.files == ("inspect",)
    assert parse(["./inspect", "--to", "kohya", "--output", "x"]).files.files == ("./inspect",)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "the following arguments are required: FILE; see python convert.py --help"),
        (["inspect"], "the following arguments are required: FILE; see python convert.py inspect --help"),
        (["a.pt"], "--to is missing: say for which program to write"),
        (["a.pt", "--to", "kohya"], "--output is missing: name the file or folder to write"),
        (["a.pt", "--to", "nothing"], "--to: invalid choice: 'nothing'"),
        (["a.pt", "--to", "kohya", "--output", ""], "--output is empty"),
        (["", "--to", "kohya", "--output", "x"], "FILE is empty (a shell variable that is not set?)"),
        (["a.pt", "--rename", "ab", "--to", "kohya", "--output", "x"], "--rename: must be OLD=NEW"),
        (["inspect", "a.pt", "--to", "kohya"], "--to is not a flag of convert.py inspect"),
        (["inspect", "a\0b"], "is followed by a NUL character"),
        (["inspect", "\udcff.pt"], "FILE \N{REPLACEMENT CHARACTER}.pt has bytes that are not UTF-8; rename the file"),
    ],
)
def test_what_is_wrong_is_one_line_with_the_way_out(words, said):
    with pytest.raises(SettingsError) as raised:
        parse(words)

    assert said.replace("\N{REPLACEMENT CHARACTER}", "?") in str(raised.value)


def test_a_mix_gets_its_layout_from_the_ending_unless_it_is_given():
    words = ["mix", "-1 * a.pt + b.pt:<b>", "--name", "<n>", "--output"]

    assert isinstance(parse([*words, "n.safetensors"]), MixConfig)
    assert parse([*words, "n.safetensors"]).output.to == "safetensors"
    assert [parse([*words, f"n{one.ending}"]).output.to for one in TARGETS.values()][:5] == list(TARGETS)[:5]
    assert parse([*words, "n.safetensors", "--to", "kohya"]).output.to == "kohya"
    assert parse([*words, "folder/", "--to", "webui-pt"]).output.to == "webui-pt"


def test_help_names_every_target_and_subcommand():
    text = build_parser().format_help()

    assert all(name in text for name in (*TARGETS, *SUBCOMMANDS))
    for name in SUBCOMMANDS:
        assert f"convert.py {name}" in build_parser(name).format_help()
