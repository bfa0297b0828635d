"""Every training sentence has one place for the word, and languages come as asked."""

import re

import pytest

from textual_inversion.prompts import LANGUAGES, PROPERTIES, plain_template, templates


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("learnable_property", PROPERTIES)
def test_sentences_have_one_place_each_and_none_stands_twice(learnable_property, language):
    sentences = templates(learnable_property, language)

    assert all(sentence.count("{}") == 1 for sentence in sentences)
    assert len(set(sentences)) == len(sentences) >= 12
    assert all("  " not in sentence for sentence in sentences)


@pytest.mark.parametrize("learnable_property", PROPERTIES)
def test_bilingual_models_train_on_both_languages(learnable_property):
    both = templates(learnable_property, "zh_en")

    assert set(both) == set(templates(learnable_property, "zh")) | set(templates(learnable_property, "en"))
    chinese = [sentence for sentence in both if re.search("[一-鿿]", sentence)]
    assert chinese == list(templates(learnable_property, "zh"))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("learnable_property", PROPERTIES)
def test_the_plain_sentence_is_one_that_is_trained_on(learnable_property, language):
    assert plain_template(learnable_property, language) in templates(learnable_property, language)


def test_an_unknown_property_is_an_error():
    with pytest.raises(KeyError):
        templates("smell")
