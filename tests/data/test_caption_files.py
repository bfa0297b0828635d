"""Captions of every kind that other programs write: which is read, which of several counts, and what is said."""

import json

import pytest

from textual_inversion.data.caption_files import find_captions
from textual_inversion.system.errors import SettingsError


def folder_of(tmp_path, **files):
    """A folder with files; `__` in a name stands for a dot."""
    for name, text in files.items():
        (tmp_path / name.replace("__", ".")).write_text(text, encoding="utf-8")
    return tmp_path


def captions(folder, *names):
    """The prompts and the source of each image, and what was said."""
    said = []
    found = find_captions([folder / name for name in names], folder, said.append)
    return [(one.prompts, one.source) for one in found], said


SOURCES = ["0.txt", "0.TXT", "0.caption", "0.png.txt", "0.png.Caption", "metadata.jsonl", "metadata.csv"]


def write(folder, name):
    """One source of captions for 0.png, with its own name as the caption."""
    text = {
        "metadata.jsonl": json.dumps({"file_name": "0.png", "text": name}) + "\n",
        "metadata.csv": f"file_name,text\n0.png,{name}\n",
    }.get(name, name)
    (folder / name).write_text(text)


@pytest.mark.parametrize("name", SOURCES)
def test_every_kind_of_caption_is_read(tmp_path, name):
    write(tmp_path, name)

    assert captions(tmp_path, "0.png") == ([((name,), name)], [])


def test_of_several_the_first_in_the_documented_order_counts_and_that_is_said(tmp_path):
    folder = tmp_path / "10_cat toy"
    folder.mkdir()
    for name in SOURCES:
        write(folder, name)

    for number, name in enumerate(SOURCES):
        found, said = captions(folder, "0.png")
        assert found == [((name,), name)]
        several = f"{folder}: 1 image(s) have several captions, and the first is used: "
        assert said == ([] if number == len(SOURCES) - 1 else [several + said[0].removeprefix(several)])
        assert not said or f"0.png ({', '.join(SOURCES[number:])})"[:40] in said[0]
        (folder / name).unlink()
    (found,) = find_captions([folder / "0.png"], tmp_path, print)
    assert (found.prompts, found.source) == (("cat toy",), "10_cat toy")
    assert captions(folder, "0.png") == ([((), "")], [])


def test_accents_in_names_and_rows_are_compared_in_one_form(tmp_path):
    (tmp_path / "cafe\u0301.txt").write_text("one")
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "o\u0308l.png", "text": "cafe\u0301"}))

    found, said = captions(tmp_path, "caf\u00e9.png", "\u00f6l.png")

    assert found == [(("one",), "cafe\u0301.txt"), (("caf\u00e9",), "metadata.jsonl")] and said == []


def test_names_with_dots_or_without_an_ending(tmp_path):
    folder = folder_of(tmp_path, a__b__txt="dots", c__txt="none", d__jpg_large__txt="large")

    found, said = captions(folder, "a.b.png", "c", "d.jpg_large")

    assert [prompts for prompts, _ in found] == [("dots",), ("none",), ("large",)] and said == []


def test_what_is_read_as_no_caption_is_said(tmp_path):
    folder = folder_of(
        tmp_path, a__txt="one", b__txt="\n \n", c__txt="x", d__caption="y", LICENSE__txt="z", README__txt="",
        metadata__csv="file_name,text\nb.png,two\nz.png,x\nc.png,\n",
    )  # fmt: skip

    found, said = captions(folder, "a.png", "b.png", "c.PNG")

    assert [prompts for prompts, _ in found] == [("one",), ("two",), ("x",)]
    assert said == [
        f"{tmp_path}: 1 text file(s) without an image of that name: d.caption",
        f"{tmp_path}: 1 caption file(s) without text: b.txt",
        f"{tmp_path / 'metadata.csv'}: 2 row(s) without their image: z.png, c.png",
    ]


def test_metadata_knows_lists_other_columns_and_folders(tmp_path):
    rows = [
        {"file_name": "./0.png", "text": ["one", " two\nlines ", ""], "width": 3},
        {"file_name": "10_cat\\1.png", "text": "", "caption": "three"},
        {"file_name": "2.png", "text": None},
        {"file_name": "3.png", "label": 3},
    ]
    (tmp_path / "metadata.jsonl").write_text("\ufeff" + "\n\n".join(map(json.dumps, rows)) + "\r\n")
    (tmp_path / "10_cat").mkdir()
    (tmp_path / "10_cat" / "metadata.csv").write_text('prompt,file_name\n"a, b",4.png\n')

    found, said = captions(tmp_path, "0.png", "10_cat/1.png", "2.png", "3.png", "10_cat/4.png")

    assert [prompts for prompts, _ in found] == [("one", "two lines"), ("three",), (), (), ("a, b",)]
    assert said == [f'{tmp_path / "metadata.jsonl"}: 2 row(s) without any of "text", "caption", "prompt": 2.png, 3.png']


ROW = '{"file_name": "0.png", "text": "x"}\n'
BAD = {
    "no JSON": ("metadata.jsonl", ROW + "\nfile_name: 1.png\n", "line 3: is not JSON"),
    "cut": ("metadata.jsonl", ROW + ROW[:-9], "line 2: is not JSON"),
    "deep": ("metadata.jsonl", ROW + "[" * 100_000, "line 2: is not"),
    "a list": ("metadata.jsonl", "[1]\n", "line 1: is not a JSON object"),
    "no name": ("metadata.jsonl", ROW + '{"text": "x"}\n', 'line 2: has no "file_name"'),
    "a number": ("metadata.jsonl", '{"file_name": 3}\n', 'line 1: has no "file_name"'),
    "twice": ("metadata.jsonl", ROW + "\n" + ROW, "line 3: names 0.png, as line 1 does"),
    "no text": (
        "metadata.jsonl",
        '{"file_name": "0.png", "text": {"en": "x"}}',
        'something else than text under "text"',
    ),
    "half a letter": ("metadata.jsonl", r'{"file_name": "0.png", "text": "\ud800"}', "line 1: is not JSON"),
    "columns": (
        "metadata.csv",
        "file_name;text\n0.png;x\n",
        'line 1: does not name the columns "file_name" and "text"',
    ),
    "no columns": ("metadata.csv", "", 'line 1: does not name the columns "file_name" and "text"'),
    "cells": ("metadata.csv", "file_name,text\n0.png,a cat, asleep\n", "line 2: has more cells than there are columns"),
    "a quote": ("metadata.csv", 'file_name,text\n0.png,"x\n', "line 2: is not CSV"),
    "an empty name": ("metadata.csv", "file_name,text\n,x\n", 'line 2: has no "file_name"'),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_line_of_metadata_is_named(tmp_path, kind):
    name, text, reason = BAD[kind]
    (tmp_path / name).write_text(text)

    with pytest.raises(SettingsError) as caught:
        captions(tmp_path, "0.png")
    assert str(caught.value).startswith(str(tmp_path / name)) and reason in str(caught.value)
    assert str(caught.value).endswith("; repair it, or add --no_captions") and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["0.txt", "0.caption", "metadata.jsonl", "metadata.csv"])
def test_what_is_no_text_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"caf\xe9 \xff")

    with pytest.raises(SettingsError, match=f"{name} is not UTF-8 text; save it as UTF-8, or add --no_captions"):
        captions(tmp_path, "0.png")
