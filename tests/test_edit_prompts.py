"""Prompts that show off and score."""

import pytest

from textual_inversion.edit_prompts import EDITS, showcase, without_word
from textual_inversion.prompts import PROPERTIES, plain_template

PLAIN = {kind: plain_template(kind) for kind in PROPERTIES}


@pytest.mark.parametrize("kind", PROPERTIES)
def test_each_edit_has_one_place_for_the_word(kind):
    assert len(set(EDITS[kind])) == len(EDITS[kind]) >= 7
    assert all(template.count("{}") == 1 for template in EDITS[kind])


def test_a_word_is_shown_by_itself_first_and_in_every_prompt():
    prompts = showcase({"<cat-toy>": "object"}, PLAIN)

    assert prompts[0] == "a photo of a <cat-toy>"
    assert 5 <= len(prompts) <= 8 and all("<cat-toy>" in prompt for prompt in prompts)


def test_objects_are_shown_in_the_styles():
    prompts = showcase({"<a>": "object", "<s>": "style", "<b>": "object"}, PLAIN)

    assert prompts[-2:] == ["a <a> in the style of <s>", "a <b> in the style of <s>"]


def test_text_without_the_word_is_that_of_the_paper():
    assert without_word("a photo of {} on the moon") == "a photo of on the moon"
    assert without_word("a cat in the style of {}") == "a cat in the style of"
