"""The page "Coming from other systems" says what the commands answer, in both languages; its figures are counted."""

import re

import pytest

from helpers.documents import flags, read, script_of_docs
from helpers.paths import ROOT
from textual_inversion.settings.other_names import FIXED, SYSTEMS, named, rows

PAGE = "docs/other-systems.md"
other_names = script_of_docs("other_names")


@pytest.fixture(scope="module")
def shown() -> str:
    return other_names.markdown()


def line_of(shown: str, *words: str) -> str:
    return next((line for line in shown.splitlines() if all(word in line for word in words)), "")


def test_the_page_takes_up_the_table_and_is_built_anew_each_time():
    assert read(PAGE).count("<!-- other names -->") == 1
    conf = read("docs/conf.py")
    assert 'replace("<!-- other names -->", other_names.markdown())' in conf and '"other-systems"' in conf


def test_every_row_of_the_table_stands_on_the_page(shown):
    for row in rows():
        if row.flag:
            line = line_of(shown, f"| `--{row.flag}` |", "" if row.name == FIXED else f"`{row.name}`")
            assert line, row
        else:
            assert re.search(rf"`{re.escape(row.system)}: [^`]*\b{re.escape(row.name)}\b", shown), row
        if row.note:
            assert f"| {other_names._as_text(row.note)} |" in shown, row


def test_the_column_of_each_program_has_its_names_and_defaults(shown):
    table = shown.partition("## What differs")[0].splitlines()
    head = [cell.strip() for cell in table[2].strip("|").split("|")]
    lines = {line.split("|")[1].strip(): [cell.strip() for cell in line.strip("|").split("|")]
             for line in reversed(table) if line.startswith("| `--")}  # fmt: skip

    assert head == ["Here", *SYSTEMS]
    cells = {name: dict(zip(head, lines[f"`--{name}`"], strict=False)) for name in ("adam_weight_decay", "flip_p",
             "interpolation", "center_crop", "scale_lr")}  # fmt: skip
    assert cells["adam_weight_decay"]["diffusers"] == "`adam_weight_decay` (`0.01`)"
    assert cells["adam_weight_decay"]["A1111"] == "(`0`)" and "(`0.01`)" in cells["adam_weight_decay"]["kohya"]
    assert cells["flip_p"]["kohya"] == "`flip_aug` (`0`)" and cells["flip_p"]["Determined"] == "`flip_p` (`0.0`)"
    assert cells["interpolation"]["diffusers"] == "(`bicubic`)" and "(`area`)" in cells["interpolation"]["kohya"]
    assert cells["center_crop"]["Determined"] == "`center_crop` (`on`)" and "(`on`)" in cells["center_crop"]["kohya"]
    assert cells["scale_lr"]["Determined"] == "`scale_lr` (`on`)"


@pytest.mark.parametrize("name", other_names.SCRIPTS)
def test_every_flag_of_other_programs_scripts_is_counted_once_and_has_an_answer(name):
    one = other_names.answers(name)
    own = (ROOT / "tests" / "helpers" / "foreign_flags" / f"{name}.txt").read_text(encoding="utf-8").split()

    assert sorted([*one.known, *one.hinted, *one.refused]) == sorted(own) and one.unknown == ()
    system, command, *_ = other_names.SCRIPTS[name]
    here = {action.dest for actions in flags.groups(command).values() for action in actions}
    assert set(one.known) == here.intersection(own)
    assert all(named(system, command, flag).flag in here for flag in one.hinted)
    assert all(named(system, command, flag).note for flag in one.refused)


@pytest.mark.parametrize("language", ["en", "zh_CN"])
def test_the_sentence_of_the_page_and_the_command_count_the_same(language, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["other_names.py", "--figure"])
    other_names.main()
    printed = [re.findall(r"\b\d+\b", line.partition(":")[2]) for line in capsys.readouterr().out.splitlines()]
    sentence = other_names.figure(language)

    assert re.findall(r"\b\d+\b", re.sub("[\u4e00-\u9fff]", " ", sentence)) == sum(printed, [])
    assert len(printed) == len(other_names.SCRIPTS) == 3
    assert read(PAGE).count("<!-- their flags -->") == 1 and "their flags" in read("docs/conf.py")


def test_the_answer_that_the_page_shows_is_the_one_that_is_given():
    (line,) = re.findall(r"^error: (--token_string .+)$", read(PAGE), re.MULTILINE)
    with pytest.raises(Exception) as caught:
        flags.PARSE["train"](["--token_string", "x"])

    assert str(caught.value) == line


def test_the_catalogue_holds_every_sentence_of_the_tables(shown):
    pofile = pytest.importorskip("babel.messages.pofile", reason="pip install -r requirements-docs.txt")
    path = ROOT / "docs" / "locale" / "zh_CN" / "LC_MESSAGES" / "other-systems.po"
    with path.open("rb") as file:
        known = {message.id: message.string for message in pofile.read_po(file) if message.id}

    notes = {other_names._as_text(row.note) for row in rows() if row.note}
    assert [note for note in notes if note not in known] == [], "bring the catalogues up to date (CONTRIBUTING.md)"
    assert [note for note in notes if not re.search("[\u4e00-\u9fff]|、", known[note])] == []
