"""Text from outside stays text in Markdown; the table of texts is whole in both languages."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.paths import ROOT
from textual_inversion.studio import marked
from textual_inversion.studio.texts import LANGUAGES, TEXTS, preferred, text

HOSTILE = [
    "[x](http://evil.example)", "![x](http://evil.example/a.png)", "http://evil.example", "www.evil.example",
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "`a` [x](http://e.example)", "``", "`", "```\ncode",
    ":red[x]", ":material/home:", "$x^2$", "a\n\n# b", "*a*", "|a|b|", "mail@evil.example", "&lt;b&gt;", "\\", "\\`",
]  # fmt: skip


def inside(shown):
    """What a code span in CommonMark holds; fails where it is not one span from end to end."""
    fence = re.match("`+", shown)[0]
    body = shown[len(fence) : -len(fence)]
    assert shown == f"{fence}{body}{fence}" and not re.search(rf"(?<!`){fence}(?!`)", body)
    assert not body.startswith("`") and not body.endswith("`")
    return body[1:-1] if body.startswith(" ") and body.endswith(" ") and body.strip() else body


@pytest.mark.parametrize("value", HOSTILE)
def test_whatever_is_typed_is_one_piece_of_code(value):
    assert inside(marked.code(value)) == " ".join(value.split())


@given(st.text(max_size=60))
def test_every_text_is_one_piece_of_code_on_one_line(value):
    shown = marked.code(value)
    assert "\n" not in shown
    assert shown == "–" or inside(shown)


def test_a_long_text_is_cut():
    assert len(marked.code("x" * 9000)) < 410


@pytest.mark.parametrize("value", ["my cat-2", "Demo", "猫"])
def test_a_harmless_name_is_shown_as_it_is(value):
    assert marked.name(value) == value


@pytest.mark.parametrize("value", [*HOSTILE, "a_b", "1. a", "- a", "a.com", "a  b", "a-", ""])
def test_any_other_name_is_code(value):
    assert marked.name(value) == marked.code(value, 80)


def test_values_in_a_text_of_the_page_are_code_and_numbers_are_not():
    assert marked.say("en", "refused", line="[x](y)") == "Not taken: `[x](y)`"
    assert marked.say("zh", "step_of", step=3, steps=9) == "第 3 / 9 步"
    assert marked.say("en", "left", time=marked.Safe("0:12")) == "0:12 left"
    assert marked.plain("en", "refused", line="a\nb") == "Not taken: a b"


def test_help_of_flags_is_escaped():
    assert marked.escaped("(word:1.3) <a> [b]") == r"\(word\:1\.3\) \<a\> \[b\]"
    shown = marked.escaped(string.punctuation)
    assert all(f"\\{sign}" in shown for sign in "`*_{}[]()#+-.!|<>~$:&")


# ---------------------------------------------------------------------------------------------------------- the table


def places(value):
    return sorted(re.findall(r"(?<!\{)\{(\w+)\}", value))


@pytest.mark.parametrize("key", TEXTS)
def test_a_text_is_there_in_both_languages_with_the_same_places(key):
    english, chinese = TEXTS[key]
    assert english.strip() and chinese.strip()
    assert places(english) == places(chinese)
    if key not in ("title", "language"):
        assert re.search("[\u4e00-\u9fff]", chinese), "not translated"
    assert not re.search("[\u4e00-\u9fff]", english)


def test_every_text_that_a_page_asks_for_is_in_the_table_and_every_text_is_asked_for():
    sources = [path.read_text("utf-8") for path in (ROOT / "textual_inversion/studio").rglob("*.py")]
    whole = "\n".join(sources)
    asked = set(re.findall(r"(?:\.say|\.plain|say|text)\((?:language, )?\"(\w+)\"", whole))
    assert asked and asked <= set(TEXTS)
    named = set(re.findall(r"[\"'](\w+)[\"']", whole))
    begun = re.findall(r"f\"(\w+_)\{", whole) + ["property_", "resize_"]
    unused = [key for key in TEXTS if key not in named and not key.startswith(tuple(begun))]
    assert unused == []


def test_the_browser_chooses_the_first_language():
    assert [preferred(one) for one in ("zh-CN", "zh", "en-US", "de", "", None)] == ["zh", "zh", "en", "en", "en", "en"]
    assert LANGUAGES == ("en", "zh") and text("zh", "teach") == "训练"
