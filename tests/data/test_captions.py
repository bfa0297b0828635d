"""The sentences of each image: caption files, file names, templates."""

from pathlib import Path

import pytest

from textual_inversion.data.captions import Captions, file_words
from textual_inversion.system.errors import SettingsError

TEMPLATES = ("a photo of a {}", "the {}")


def captioned_images(folder: Path, **captions: str) -> list[Path]:
    """Paths of images `name.png`, each with a caption file unless its caption is empty."""
    for name, text in captions.items():
        if text:
            (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return [folder / f"{name}.png" for name in captions]


def test_without_captions_every_template_holds_the_word(tmp_path):
    assert Captions("<t>", TEMPLATES).of([tmp_path / "a.png"]) == [("a photo of a <t>", "the <t>")]


def test_captions_and_file_names_are_read_in_the_composed_form(tmp_path):
    paths = captioned_images(tmp_path, a="a <cafe\u0301> in a box")

    assert Captions("<caf\u00e9>", TEMPLATES).of(paths) == [("a <caf\u00e9> in a box",)]
    assert file_words(Path("cafe\u0301_on_a_beach.jpg"), "_") == "caf\u00e9 on a beach"


def test_a_caption_file_replaces_the_templates_line_by_line(tmp_path):
    paths = captioned_images(tmp_path, a="a <t> in a box\n\n  the <t>, old \n", b="")

    prompts = Captions("<t>", TEMPLATES).of(paths)

    assert prompts == [("a <t> in a box", "the <t>, old"), ("a photo of a <t>", "the <t>")]


def test_a_caption_without_the_word_gets_it_and_the_run_says_for_how_many(tmp_path):
    paths = captioned_images(tmp_path, a="a grey cat", b="my {} here", c="<t> and <u>", d="", e="<u> and <u>")
    said = []

    prompts = Captions("<t>", TEMPLATES).of(paths, said.append)

    captions = [("a grey cat, <t>",), ("my <t> here",), ("<t> and <u>",)]
    assert prompts == [*captions, ("a photo of a <t>", "the <t>"), ("<u> and <u>, <t>",)]
    assert said == [
        "4 of 5 image(s) of <t> have captions beside them",
        "<t> was added to 2 caption(s) that did not hold it",
    ]


def test_a_bare_word_inside_another_does_not_count(tmp_path):
    paths = captioned_images(tmp_path, a="two det-logos")

    assert Captions("det-logo", TEMPLATES).of(paths) == [("two det-logos, det-logo",)]


def test_in_chinese_a_bare_word_stands_without_blanks(tmp_path):
    paths = captioned_images(tmp_path, a="一张det-logo的照片", b="两张照片")

    assert Captions("det-logo", TEMPLATES).of(paths) == [("一张det-logo的照片",), ("两张照片, det-logo",)]


def test_captions_can_be_ignored(tmp_path):
    paths = captioned_images(tmp_path, a="a grey cat")

    assert Captions("<t>", TEMPLATES, read_files=False).of(paths) == [("a photo of a <t>", "the <t>")]


def test_file_names_can_be_captions(tmp_path):
    image = tmp_path / "on_a_dark_blue__oil_painting.jpg"

    prompts = Captions("<t>", ("a photo of a {}",), append_file_name=True).of([image])

    assert prompts == [("a photo of a <t> on a dark blue oil painting",)]
    assert file_words(Path("on-a-beach.png"), "-") == "on a beach"
    assert file_words(Path("on_a_beach.png"), "") == "on_a_beach"


def test_a_template_may_say_where_the_file_name_goes(tmp_path):
    captions = Captions("<t>", ("a {}, [filewords], painted",), split_char="-")

    assert captions.of([tmp_path / "in-snow.png"]) == [("a <t>, in snow, painted",)]


def test_a_caption_that_is_no_text_is_named(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"caf\xe9 \xff")

    with pytest.raises(SettingsError, match="a.txt is not UTF-8 text"):
        Captions("<t>", TEMPLATES).of([tmp_path / "a.png"])
