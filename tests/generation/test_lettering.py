"""Text in images: wrapped without a loss, in characters that can be drawn."""

import pytest
from PIL import ImageFont

from textual_inversion.generation import lettering

FONT = ImageFont.load_default(size=16)


@pytest.mark.parametrize(
    "text", ["a photo of a cat on the beach " * 4, "x" * 90, "一张好看的猫的照片" * 4, "a " + "y" * 60]
)
def test_wrapped_lines_fit_and_keep_every_character(text):
    lines = lettering.wrapped(text, FONT, 150, 99)
    assert all(FONT.getlength(line) <= 150 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_words_stay_whole_where_they_fit():
    assert lettering.wrapped("one two three", FONT, FONT.getlength("one two "), 9) == ["one two", "three"]


def test_what_does_not_fit_ends_in_an_ellipsis():
    lines = lettering.wrapped("many words " * 40, FONT, 150, 3)
    assert len(lines) == 3 and lines[-1].endswith("…") and FONT.getlength(lines[-1]) <= 150


def test_a_character_wider_than_the_line_gets_a_line_of_its_own():
    assert lettering.wrapped("WW", FONT, 2, 9) == ["W", "W"]


def test_characters_that_the_font_lacks_are_replaced(monkeypatch):
    monkeypatch.setattr(lettering, "_system_font", lambda size: None)
    font, text = lettering._font_for("café — 3 × 一张猫 <cat-toy>\n", 16)
    assert text == "cafe - 3 x ??? <cat-toy> "
    assert not lettering._missing(text, font)


def test_a_font_of_the_system_draws_what_the_default_cannot(monkeypatch):
    class Everything:
        """Draws every character but the one that is none."""

        def getmask(self, character):
            return FONT.getmask("a" if character != "\uffff" else "b")

    other = Everything()
    monkeypatch.setattr(lettering, "_system_font", lambda size: other)
    assert lettering._font_for("一张 café", 16) == (other, "一张 café")
    assert lettering._font_for("plain café", 16)[1] == "plain cafe"


def test_no_text_is_a_block_all_the_same():
    assert lettering.block("", 16, 100, color=(0, 0, 0), background=(9, 9, 9)).size == (1, 1)
