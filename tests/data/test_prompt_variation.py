"""Captions as samples get them: tags moved and left out, alternatives drawn, templates in between; by value."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from textual_inversion.data.prompt_variation import PromptVariation, with_placeholder
from textual_inversion.data.random_streams import Purpose, generator
from textual_inversion.data.sampler import SampleStream
from textual_inversion.data.training_image import TrainingImage

TAGS = TrainingImage(0, ("one, two, three, a <t> here, five",), has_captions=True)
TOKEN = ("<t>",)


def drawn(variation, image=TAGS, count=400):
    return [variation.drawn(generator(7, Purpose.CAPTION, index=i), image, image.prompts[0]) for i in range(count)]


def test_tags_are_in_every_order_and_those_at_the_beginning_stay():
    texts = drawn(PromptVariation(TOKEN, shuffle=True, keep=2))

    assert {text.split(", ")[:2] == ["one", "two"] for text in texts} == {True}
    assert len(set(texts)) == 6 and {frozenset(text.split(", ")) for text in texts} == {
        frozenset(["one", "two", "three", "a <t> here", "five"])
    }


def test_each_tag_is_left_out_as_often_as_asked_and_that_with_the_placeholder_never():
    counts = Counter(
        tag for text in drawn(PromptVariation(TOKEN, tag_dropout=0.25, keep=1)) for tag in text.split(", ")
    )

    assert counts["one"] == counts["a <t> here"] == 400
    assert all(abs(counts[tag] / 400 - 0.75) < 0.08 for tag in ("two", "three", "five"))
    assert set(drawn(PromptVariation(TOKEN, tag_dropout=1.0))) == {"a <t> here"}


def test_of_a_caption_that_is_left_out_the_placeholder_token_remains():
    counts = Counter(drawn(PromptVariation(TOKEN, dropout=0.3)))

    assert set(counts) == {"<t>", TAGS.prompts[0]} and abs(counts["<t>"] / 400 - 0.3) < 0.08


def test_a_share_of_the_samples_gets_templates_which_are_never_varied():
    image = replace(TAGS, templates=("a photo, of <t>", "the <t>"))

    counts = Counter(drawn(PromptVariation(TOKEN, template_share=0.5, dropout=1.0, shuffle=True), image))

    assert set(counts) == {"<t>", *image.templates} and abs(counts["<t>"] / 400 - 0.5) < 0.08
    assert abs(counts["the <t>"] - counts["a photo, of <t>"]) < 60


def test_templates_of_images_without_captions_stay_as_they_are():
    image = TrainingImage(0, ("b, a, <t>",))

    assert set(drawn(PromptVariation(TOKEN, dropout=1.0, shuffle=True, tag_dropout=1.0), image)) == {"b, a, <t>"}


def test_one_alternative_is_drawn_and_the_placeholder_is_put_behind_where_the_others_have_none():
    image = TrainingImage(0, ("a {red|blue|} {<t>|cat}",), has_captions=True)

    texts = Counter(drawn(PromptVariation(TOKEN, has_alternatives=True), image))

    assert set(texts) == {
        *("a red <t>", "a blue <t>", "a <t>"),
        *("a red cat, <t>", "a blue cat, <t>", "a cat, <t>"),
    }
    assert PromptVariation(TOKEN, has_alternatives=True).plain(image) == "a red <t>"
    assert set(PromptVariation(TOKEN, has_alternatives=True).possible(image)) == set(texts)


def test_chinese_commas_and_a_placeholder_with_a_comma_keep_their_tags():
    chinese = TrainingImage(0, ("玩具，<t>，雪",), has_captions=True)
    assert set(drawn(PromptVariation(TOKEN, tag_dropout=1.0, keep=1), chinese)) == {"玩具，<t>"}
    odd = TrainingImage(0, ("x, a,b, y",), has_captions=True)
    assert set(drawn(PromptVariation(("a,b",), tag_dropout=1.0), odd)) == {"a,b"}


def test_for_checks_the_placeholder_is_as_late_as_it_can_be():
    shuffled = PromptVariation(TOKEN, shuffle=True, dropout=0.1)

    assert list(shuffled.possible(TAGS)) == ["one, two, three, five, a <t> here", "<t>"]
    assert next(iter(replace(shuffled, keep=4).possible(TAGS))) == TAGS.prompts[0]
    many = TrainingImage(0, ("{a|b}" * 20 + " <t>",))
    assert len(list(PromptVariation(TOKEN, has_alternatives=True).possible(many))) == 1000


@pytest.mark.parametrize(("prompt", "whole"), [("a <t>", "a <t>"), ("a cat", "a cat, <t>")])
def test_the_placeholder_is_added_where_it_is_missing(prompt, whole):
    assert with_placeholder(prompt, "<t>") == whole


def stream(variation):
    images = (TAGS, TrainingImage(0, ("six, <t>, seven, eight",), templates=("a <t>",), has_captions=True))
    return SampleStream(3, images, ((1, 2, 2),), global_batch=8, placeholders=TOKEN, variation=variation)


def test_a_samples_prompt_depends_on_its_number_alone_and_changes_nothing_else():
    variation = PromptVariation(TOKEN, shuffle=True, tag_dropout=0.3, dropout=0.1, template_share=0.0)
    whole, plain = stream(variation).batch(5, range(8)), stream(None).batch(5, range(8))

    alone = [stream(variation).batch(5, [index]).prompts[0] for index in range(8)]
    ranks = [p for rank in range(4) for b in stream(variation).micro_batches(5, rank, 4, 2) for p in b.prompts]

    assert whole.prompts == alone == ranks != plain.prompts
    assert stream(variation).batch(6, range(8)).prompts != whole.prompts
    for name in ("images", "flips", "crops", "noise", "posterior_noise", "timesteps"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(plain, name))


def test_the_fixed_set_has_plain_prompts():
    variation = PromptVariation(TOKEN, has_alternatives=True, shuffle=True, dropout=1.0)

    (batch,) = stream(variation).evaluation_batches(4)

    assert set(batch.prompts) == {TAGS.prompts[0], "six, <t>, seven, eight"}
