"""Every training sentence has one place for the word, and languages come as asked."""

import re

import pytest

from textual_inversion.data.templates import plain_template, read_templates, templates
from textual_inversion.settings.choices import LANGUAGES, PROPERTIES
from textual_inversion.system.errors import SettingsError


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


def test_sentences_of_a_users_own_are_read_line_by_line(tmp_path):
    path = tmp_path / "own.txt"
    path.write_text("# mine\na statue of {}\n\n  [name], [filewords] \n一幅{}\n", encoding="utf-8")

    assert read_templates(path) == ("a statue of {}", "{}, [filewords]", "一幅{}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a statue\n", "line 1: 'a statue' must contain {} once"),
        (b"a {}\nthe {} and {}\n", "line 2"),
        (b"# nothing\n\n", "has no prompt template"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_unusable_template_files_are_refused(tmp_path, text, message):
    (tmp_path / "own.txt").write_bytes(text)

    with pytest.raises(SettingsError) as caught:
        read_templates(tmp_path / "own.txt")
    assert message in str(caught.value) and "own.txt" in str(caught.value)


def test_a_template_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SettingsError, match="No such file"):
        read_templates(tmp_path / "own.txt")
