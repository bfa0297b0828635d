"""Words of a text encoder: which they are, and which rows of the table are nearest to a vector."""

import numpy as np
import pytest

from helpers.tiny_models import END, START, WORDS, build_model, tree
from textual_inversion.models.base_model import load_base_model
from textual_inversion.models.concept_embedding import table_of
from textual_inversion.models.vocabulary import Vocabulary, load_text_encoders, whole_words
from textual_inversion.system.errors import BaseModelError


@pytest.mark.parametrize("family", ["sd1", "taiyi", "alt"])
def test_words_are_whole_tokens_of_plain_letters(tmp_path, family):
    tokenizer = load_base_model(build_model(tmp_path, family)).text_encoders[0].tokenizer

    words = whole_words(tokenizer)

    expected = {word for word in WORDS if len(word) >= 3}  # no letters, no pieces, no special tokens
    # The tiny SentencePiece model of "alt" cuts some of its own words.
    assert expected == set(words) if family != "alt" else expected > set(words) and len(words) > 5
    ids = [tokenizer.convert_tokens_to_ids(tokenizer.tokenize(word)) for word in words]
    assert all(len(one) == 1 for one in ids) and sorted(ids) == ids
    assert whole_words(tokenizer, 3) == words[:3]


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_the_text_encoders_alone_are_those_of_the_whole_model(tmp_path, family):
    folder = build_model(tmp_path, family, "diffusers")
    before = tree(folder)

    encoders = load_text_encoders(folder)

    for one, other in zip(encoders, load_base_model(folder).text_encoders, strict=True):
        assert one.name == other.name
        np.testing.assert_array_equal(table_of(one.layer).numpy(), table_of(other.layer).numpy())
        assert np.array_equal(one.encode_ids(["a cat"]), other.encode_ids(["a cat"]))
    assert tree(folder) == before


def test_another_tokenizer_is_taken_where_one_is_named(tmp_path):
    folder = build_model(tmp_path / "a")
    other = build_model(tmp_path / "b", seed=1)
    (folder / "tokenizer" / "vocab.json").unlink()

    with pytest.raises(BaseModelError):
        load_text_encoders(folder)
    (encoder,) = load_text_encoders(folder, tokenizer_name=str(other))
    assert "cat" in whole_words(encoder.tokenizer)


def test_the_nearest_words_of_a_row_begin_with_its_own(tmp_path):
    (encoder,) = load_text_encoders(build_model(tmp_path))
    vocabulary, table = Vocabulary.of(encoder), table_of(encoder.layer).numpy()
    ids = encoder.tokenizer.convert_tokens_to_ids(["cat</w>", "toy</w>"])

    found = vocabulary.nearest(np.stack([3 * table[ids[0]], table[ids[1]]]), count=4)

    assert [nearest[0][0] for nearest in found] == ["cat", "toy"]
    assert [nearest[0][1] for nearest in found] == pytest.approx([1, 1], abs=1e-5)
    for nearest in found:
        cosines = [cosine for _, cosine in nearest]
        assert len(nearest) == 4 and cosines == sorted(cosines, reverse=True)
    word, cosine = found[0][1]
    row = table[encoder.tokenizer.convert_tokens_to_ids([f"{word}</w>"])[0]]
    expected = row @ table[ids[0]] / np.linalg.norm(row) / np.linalg.norm(table[ids[0]])
    assert cosine == pytest.approx(float(expected), abs=1e-5)
    assert not {START, END} & set(vocabulary.words)


def test_norms_are_those_of_the_whole_table(tmp_path):
    (encoder,) = load_text_encoders(build_model(tmp_path))
    lengths = np.linalg.norm(table_of(encoder.layer).numpy(), axis=1)

    assert Vocabulary.of(encoder).norms == pytest.approx((lengths.mean(), lengths.std()))


def test_many_vectors_are_held_against_the_table_in_parts_and_zeros_are_near_to_nothing(tmp_path):
    (encoder,) = load_text_encoders(build_model(tmp_path))
    vocabulary = Vocabulary.of(encoder)
    vectors = np.concatenate([vocabulary.rows[:1]] * 200 + [np.zeros_like(vocabulary.rows[:1])])

    found = vocabulary.nearest(vectors, count=1)

    assert len(found) == 201 and {one[0][0] for one in found[:200]} == {vocabulary.words[0]}
    assert found[-1][0][1] == 0
