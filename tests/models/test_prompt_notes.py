"""Notes on text that is cut and on marks of weights that are read as text."""

import pytest

from helpers.tiny_tokenizers import write_tokenizer
from textual_inversion.models.prompt_encoder import PromptEncoder
from textual_inversion.models.prompt_notes import cut_notes, reading_notes
from textual_inversion.models.tokenizers import load_clip_tokenizer
from textual_inversion.system.errors import SettingsError

TOYS = " ".join(["toy"] * 80)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return load_clip_tokenizer(folder, longest=77)


@pytest.fixture
def encoders(tokenizer):
    return [PromptEncoder(tokenizer, {"<cat-toy>": 3}, first_id=900)]


def test_a_word_that_no_prompt_has_room_for_is_told_in_plain_words(tokenizer):
    encoder = PromptEncoder(tokenizer, {"<big>": 80, "<t>": 2}, first_id=900)

    assert cut_notes(encoder, ["a <big>", "a <t>"]) == [
        "a word of 80 vectors cannot fit in a prompt of 75 tokens: 'a <big>' is longer than the model reads (77 "
        "tokens); cut: 'the last 6 of the 80 vectors of <big>'"
    ]


def test_marks_that_are_read_as_text_are_noted_once(encoders):
    texts = ["a cat", "a (cat:1.3)", "a [dog]", "a (cat:1.3)", r"a \(toy\)"]

    (note,) = reading_notes(encoders, texts, prompt_weights=False)

    assert note.startswith(
        "'a (cat:1.3)' (and 2 more) holds brackets or backslashes, which are read as text; --prompt_w"
    )
    assert reading_notes(encoders, texts, prompt_weights=True) == []
    assert reading_notes(encoders, ["a cat: a toy, <cat-toy>"], prompt_weights=False) == []


def test_a_long_prompt_is_cut_only_where_weights_are_not_read(encoders):
    assert "cut: 'toy toy toy toy toy'" in reading_notes(encoders, [TOYS], prompt_weights=False)[0]
    assert reading_notes(encoders, [TOYS], prompt_weights=True) == []


def test_with_weights_every_text_encoder_is_asked_whether_it_can_read_the_prompts(tokenizer):
    encoders = [PromptEncoder(tokenizer), PromptEncoder(tokenizer, {"<big>": 80}, first_id=900)]

    with pytest.raises(SettingsError, match="<big> has 80 vectors"):
        reading_notes(encoders, ["a cat", "a <big>"], prompt_weights=True)
