"""Prompts that show off and score."""

import pytest

from textual_inversion.data.templates import plain_template
from textual_inversion.generation.eval_prompts import EDITS, EDITS_ZH, edits, showcase, without_placeholder
from textual_inversion.settings.choices import PROPERTIES

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


def test_what_is_not_wanted_is_shown_where_there_is_nothing_else():
    assert showcase({"<a>": "object", "<bad>": "negative", "<s>": "style"}, PLAIN) == showcase(
        {"<a>": "object", "<s>": "style"}, PLAIN
    )
    alone = showcase({"<bad>": "negative"}, PLAIN)
    assert alone[0] == "a picture, <bad>" and all("<bad>" in prompt for prompt in alone) and len(alone) == 6


def test_text_without_the_word_is_that_of_the_paper():
    assert without_placeholder("a photo of {} on the moon") == "a photo of on the moon"
    assert without_placeholder("a cat in the style of {}") == "a cat in the style of"


def test_chinese_prompts_say_in_order_what_the_english_ones_say():
    assert {kind: len(texts) for kind, texts in EDITS.items()} == {kind: len(texts) for kind, texts in EDITS_ZH.items()}
    assert all(text.count("{}") == 1 and not text.isascii() for texts in EDITS_ZH.values() for text in texts)
    assert edits("face", "zh") == edits("face", "zh_en") == EDITS_ZH["face"] and edits("face") == EDITS["face"]


def test_a_chinese_word_is_shown_off_in_chinese():
    plain = {kind: plain_template(kind, "zh") for kind in PROPERTIES}

    prompts = showcase({"<a>": "object", "<s>": "style"}, plain, "zh")

    assert prompts[0] == "一张<a>的照片" and prompts[-1] == "一幅<s>风格的<a>" and not any(p.isascii() for p in prompts)
