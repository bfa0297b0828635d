"""The table of what other programs call our flags: it is true of the flags that there are, and leaves no one out."""

from collections import Counter

import pytest

from helpers.documents import flags
from helpers.paths import ROOT
from textual_inversion.settings import other_names
from textual_inversion.settings.other_names import FIXED, SYSTEMS, answer, found, named, rows
from textual_inversion.system.errors import SettingsError

FOREIGN = ROOT / "tests" / "helpers" / "foreign_flags"
COMMANDS = {"train": "train", "infer": "infer", "convert": "convert", "file": "train"}
KNOWN = {command: {action.dest for own in flags.groups(command).values() for action in own}
         for command in ("train", "infer", "convert", "score")}  # fmt: skip
# The programs' own lists of flags -> the rows that must hold them.
LISTS = {"diffusers": ("diffusers", "train"), "kohya": ("kohya", "train"), "kohya_gen_img": ("kohya", "infer")}


def foreign_flags(name: str) -> list[str]:
    return (FOREIGN / f"{name}.txt").read_text(encoding="utf-8").split()


def test_every_program_has_rows_and_no_name_has_two_meanings():
    counted = Counter((row.system, row.command, row.name) for row in rows() if row.name != FIXED)

    assert {row.system for row in rows()} == set(SYSTEMS)
    assert {row.command for row in rows()} == set(other_names.SCRIPTS)
    assert [name for name, count in counted.items() if count > 1] == []
    assert len(rows()) > 750


def test_every_flag_of_the_table_is_one_of_its_command():
    assert [row for row in rows() if row.flag and row.flag not in KNOWN[COMMANDS[row.command]]] == []


def test_nothing_that_is_here_is_said_to_be_absent_and_what_is_absent_has_a_reason():
    absent = [row for row in rows() if row.flag is None]

    assert len(absent) > 150
    assert [row for row in absent if row.command != "file" and row.name in KNOWN[row.command]] == [], (
        "a flag of this name is here now: give its row in other_names.txt the flag"
    )
    assert [row for row in absent if not row.note.startswith(("is ", "cannot "))] == []


def test_no_note_names_a_flag_that_is_not_there():
    ours = set().union(*KNOWN.values())
    kohyas = set(foreign_flags("kohya")) | set(
        "n d l s w h negative nproc_per_node".split()
    )  # of prompt files and of the launcher

    for row in rows():
        named_flags = {word.strip(":;,.").lstrip("-") for word in row.note.split() if word.startswith("--")}
        assert named_flags <= ours | kohyas, row


@pytest.mark.parametrize("row", [row for row in rows() if row.default], ids=lambda row: f"{row.system}-{row.name}")
def test_a_default_that_is_shown_is_another_one_than_here(row):
    parser = flags.PARSERS[COMMANDS[row.command]]()
    shown = {"on": "true", "off": "false"}.get(row.default, row.default)
    try:
        theirs = getattr(parser.parse_args([f"--{row.flag}={shown}"]), row.flag)
    except SettingsError:
        return  # what is no value of the flag is none of its default either
    assert theirs != parser.get_default(row.flag)


@pytest.mark.parametrize("name", LISTS)
def test_every_flag_of_the_scripts_is_known_answered_or_refused_with_a_reason(name):
    system, command = LISTS[name]

    assert [
        flag for flag in foreign_flags(name) if flag not in KNOWN[command] and not named(system, command, flag)
    ] == []


def test_a_name_is_looked_for_in_its_command_first_and_then_in_others():
    assert [row.flag for row in found("train_textual_inversion.py", "--init-word")] == ["initializer_token"]
    assert {row.command for row in found("infer.py", "batch_count")} == {"infer"}
    assert {row.command for row in found("score.py", "cfg_scale")} == {"infer"}
    assert found("infer.py", "no_such_flag") == found("tool.py", "weights") == []


@pytest.mark.parametrize(
    ("script", "given", "words"),
    [
        ("train_textual_inversion.py", "--weights", "kohya's --weights is --initializer_embeds here"),
        ("train_textual_inversion.py", "--save_as_full_pipeline",
         "diffusers' --save_as_full_pipeline is the default here; --only_save_embeds turns it off"),
        ("train_textual_inversion.py", "--batch-size",
         "A1111's and OneTrainer's --batch-size is --train_batch_size here"),
        ("infer.py", "--weights", "kohya's --weights is --initializer_embeds of train_textual_inversion.py"),
        ("infer.py", "--train_data_dir", "it is one of train_textual_inversion.py"),
        ("convert.py inspect", "--scale_lr", "it is one of train_textual_inversion.py"),
        ("infer.py", "--no_such_flag", None),
        ("train_textual_inversion.py", "--learning-rate", None),
    ],
)  # fmt: skip
def test_the_answer_says_which_flag_it_is_and_where(script, given, words):
    command = script.split()[0].split(".")[0].split("_")[0]

    assert answer(script, given, KNOWN[command]) == words
