"""The sentences of each image: caption files, file names, templates."""

from pathlib import Path

import pytest

from textual_inversion.data.alternatives import parsed
from textual_inversion.data.captions import Captions, ImagePrompts, check_effects, file_words
from textual_inversion.data.templates import with_short_ones
from textual_inversion.settings.train_data import PromptSettings
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


def test_prefix_and_suffix_stand_around_captions_and_not_around_templates(tmp_path):
    paths = captioned_images(tmp_path, a="cat, snow", b="")
    said = []

    prompts = Captions("<t>", TEMPLATES, prefix="a photo of {},", suffix="sharp").of(paths, said.append)

    assert prompts == [("a photo of <t>, cat, snow sharp",), ("a photo of a <t>", "the <t>")]
    assert not any("was added" in line for line in said)


def test_templates_come_beside_captions_where_samples_get_both(tmp_path):
    paths = captioned_images(tmp_path, a="a <t> in snow", b="")

    first, second = Captions("<t>", TEMPLATES, adds_templates=True).read(paths)

    assert first == ImagePrompts(("a <t> in snow",), ("a photo of a <t>", "the <t>"), has_captions=True)
    assert second == ImagePrompts(("a photo of a <t>", "the <t>"))


def test_where_alternatives_are_read_tokens_and_file_names_stand_for_themselves(tmp_path):
    paths = captioned_images(tmp_path, **{"a_{b}": "", "c": "{red|blue} {}"})
    captions = Captions("<t|u>", ("a {x|y} {}, [filewords]",), has_alternatives=True)

    (template,), (caption,) = captions.of(paths)

    assert list(parsed(template, "").texts()) == ["a x <t|u>, a {b}", "a y <t|u>, a {b}"]
    assert list(parsed(caption, "").texts()) == ["red <t|u>", "blue <t|u>"]


def test_short_templates_are_as_many_as_asked():
    assert with_short_ones(("x {}",), 2, 1, "en") == ("x {}", "{}", "{}", "a {}")
    assert with_short_ones(("x {}",), 0, 2, "zh") == ("x {}", "一个{}", "一个{}")


@pytest.mark.parametrize(
    ("flags", "kinds", "named"),
    [
        (dict(shuffle_caption=True), [False], "--shuffle_caption has no effect, since no image has a caption"),
        (dict(caption_prefix="a"), [False], "--caption_prefix"),
        (dict(template_share=0.5), [False], "--template_share"),
        (dict(num_a_prompts=3), [True], "--num_a_prompts has no effect, since every image has a caption"),
        (dict(num_blank_prompts=3), [True], "add --template_share"),
        (dict(num_blank_prompts=3, template_share=0.5), [True], None),
        (dict(shuffle_caption=True, num_a_prompts=1), [True, False], None),
    ],
)
def test_flags_about_captions_that_are_not_there_are_refused(flags, kinds, named):
    prompts = [ImagePrompts(("x",), has_captions=kind) for kind in kinds]
    settings = PromptSettings(**flags)
    if named is None:
        check_effects(settings, prompts)
        return
    with pytest.raises(SettingsError, match=named):
        check_effects(settings, prompts)
