"""Placeholders: whole words, many vectors, one expansion."""

import numpy as np
import paddle
import pytest

from textual_inversion.concepts import (
    Concept,
    PromptEncoder,
    attach_concepts,
    check_placeholder,
    initial_rows,
    start_rows,
)
from textual_inversion.errors import ConceptError
from textual_inversion.models import load_base_model
from textual_inversion.tokenizers import load_clip_tokenizer
from tiny_models import build_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_base_model(build_model(tmp_path_factory.mktemp("base"), "sd1", "ppdiffusers"))


@pytest.fixture
def tokenizer(model):
    return model.towers[0].tokenizer


def test_without_placeholders_ids_are_the_tokenizers_own(tokenizer):
    prompts = ["a photo of a toy", "", "a cat, on the beach!"]

    ids = PromptEncoder(tokenizer)(prompts)

    expected = tokenizer(prompts, padding="max_length", truncation=True, max_length=77)["input_ids"]
    np.testing.assert_array_equal(ids, expected)


def test_a_placeholder_becomes_all_its_ids(tokenizer):
    encoder = PromptEncoder(tokenizer, {"<cat-toy>": 3, "<other>": 1}, first_id=900)

    ids = encoder.token_ids("a <cat-toy> and <other>")

    a, and_ = encoder.token_ids("a"), encoder.token_ids("and")
    assert ids == [*a, 900, 901, 902, *and_, 903]


def test_ids_equal_those_of_a_tokenizer_that_has_the_words_added(model, tokenizer):
    added = load_clip_tokenizer(model.folder / "tokenizer", longest=77)
    added.add_tokens(["<cat-toy>", "<cat-toy>_1"])
    encoder = PromptEncoder(tokenizer, {"<cat-toy>": 2}, first_id=len(tokenizer))
    sentences = ["a photo of a {}", "a {} on the beach", "{}", "the {}, a toy", "a picture in the style of {}"]

    ours = encoder([s.replace("{}", "<cat-toy>") for s in sentences])

    expanded = [s.replace("{}", "<cat-toy> <cat-toy>_1") for s in sentences]
    theirs = added(expanded, padding="max_length", truncation=True, max_length=77)["input_ids"]
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("prompt", "holds"),
    [
        ("a det-logo", True),
        ("det-logo, art", True),
        ("(det-logo)", True),
        ("a det-logos", False),
        ("an undet-logo", False),
        ("a det-logo-like thing", False),
        ("a det logo", False),
    ],
)
def test_a_bare_word_fires_as_a_whole_word_only(tokenizer, prompt, holds):
    encoder = PromptEncoder(tokenizer, {"det-logo": 1}, first_id=900)

    assert encoder.holds_placeholder(prompt) is holds
    assert (900 in encoder.token_ids(prompt)) is holds


def test_one_vector_can_be_named_alone(tokenizer):
    encoder = PromptEncoder(tokenizer, {"<t>": 12}, first_id=900)

    assert encoder.token_ids("<t>_1") == [901]
    assert encoder.token_ids("<t>_11") == [911]
    assert encoder.token_ids("<t>")[:2] == [900, 901]


def test_what_is_past_the_models_length_is_told(tokenizer):
    encoder = PromptEncoder(tokenizer, {"<t>": 2}, first_id=900)
    fits = " ".join(["toy"] * 75)

    assert encoder.dropped(fits) == ""
    assert encoder.dropped(fits + " cat <t>") == "cat <t><t>_1"
    assert encoder([fits + " cat"]).shape == (1, 77)
    assert encoder([fits + " cat"])[0, -1] == tokenizer.eos_token_id


@pytest.mark.parametrize("bad", ["", "two words", "tab\tbed", "<a\u200b>", "toy", "<|endoftext|>"])
def test_unusable_placeholders_are_refused(tokenizer, bad):
    with pytest.raises(ConceptError):
        check_placeholder(bad, tokenizer)


def test_rows_start_at_the_initializers_mean_and_apart_from_one_another(model, tokenizer):
    table = paddle.to_tensor(np.random.default_rng(0).standard_normal((2000, 8)).astype("float32"))
    ids = PromptEncoder(tokenizer).token_ids("toy cat")

    rows = initial_rows(Concept("<t>", 3, "toy cat"), tokenizer, table, np.random.default_rng(0))

    np.testing.assert_allclose(rows[0], table.numpy()[ids].mean(0), atol=1e-6)
    assert np.abs(rows[0] - rows[1]).max() > 1e-3 and np.abs(rows[1] - rows[2]).max() > 1e-3
    assert np.abs(rows - rows[0]).std() < 0.2 * table.numpy().std()


@pytest.mark.parametrize("initializer", ["", "   "])
def test_an_empty_initializer_is_refused(model, initializer):
    with pytest.raises(ConceptError, match="initializer"):
        start_rows(model, [Concept("<t>", 1, initializer)], np.random.default_rng(0))


def test_more_vectors_than_a_prompt_has_room_for_are_refused(model):
    with pytest.raises(ConceptError, match="at most 63"):
        start_rows(model, [Concept("<t>", 64, "toy")], np.random.default_rng(0))


def test_attached_words_change_only_prompts_that_hold_them(model):
    before = model.encode_prompts(["a photo of a toy"]).hidden_states.numpy()
    rows = start_rows(model, [Concept("<t>", 2, "cat")], np.random.default_rng(0))

    embeddings = attach_concepts(model, {"<t>": 2}, rows)

    np.testing.assert_array_equal(model.encode_prompts(["a photo of a toy"]).hidden_states.numpy(), before)
    hidden = model.encode_prompts(["a photo of a <t>"]).hidden_states
    hidden.sum().backward()
    gradient = embeddings["text_encoder"].rows.grad.numpy()
    assert (np.abs(gradient).max(axis=1) > 0).all()
