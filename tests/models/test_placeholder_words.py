"""Placeholder tokens that a base model leaves free, and those that it does not."""

import json
import re

import pytest

from helpers.tiny_tokenizers import write_tokenizer
from textual_inversion.models.placeholder_words import check_placeholder
from textual_inversion.models.tokenizers import load_clip_tokenizer
from textual_inversion.system.errors import ConceptError


@pytest.mark.parametrize("bad", ["", "two words", "tab\tbed", "<a\u200b>", "toy", "<|endoftext|>"])
def test_unusable_placeholders_are_refused(tmp_path, bad):
    write_tokenizer(tmp_path)
    tokenizer = load_clip_tokenizer(tmp_path, longest=77)

    with pytest.raises(ConceptError):
        check_placeholder(bad, tokenizer)


@pytest.mark.parametrize(
    ("word", "vectors", "reason"),
    [
        ("<w>", 1, "'<w>' is a token of this base model already"),
        ("<new>", 2, "'<new>' has a vector '<new>_1', which is a token of this base model already"),
        ("<w>_2", 1, "'<w>_2' would be read as one more vector of <w>"),
        ("<w>_3", 1, None),
        ("<new>", 1, None),
    ],
)
def test_a_new_word_keeps_clear_of_those_that_the_base_model_holds(tmp_path, word, vectors, reason):
    size = len(write_tokenizer(tmp_path))
    held = {"<w>": size, "<w>_1": size + 1, "<new>_1": size + 2}
    (tmp_path / "added_tokens.json").write_text(json.dumps(held))
    tokenizer = load_clip_tokenizer(tmp_path, longest=77)

    if reason is None:
        check_placeholder(word, tokenizer, num_vectors=vectors)
    else:
        with pytest.raises(ConceptError, match=re.escape(reason)):
            check_placeholder(word, tokenizer, num_vectors=vectors)
