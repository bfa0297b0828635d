"""Texts are encoded alone, once, when they are needed, and kept within a bound."""

import numpy as np
import paddle
import pytest

from helpers.tiny_models import build_model
from textual_inversion.generation.text_embeddings import Text, TextEmbeddings
from textual_inversion.models.base_model import load_base_model

A, B, C = Text("a cat"), Text("a dog in the snow"), Text("")
BYTES = 77 * 32 * 4  # of a text of the tiny model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_base_model(build_model(tmp_path_factory.mktemp("base") / "sd1"))


@pytest.fixture
def encoded(model, monkeypatch):
    found, usual = [], model.encode_prompts
    monkeypatch.setattr(model, "encode_prompts", lambda prompts, *how: found.append(prompts) or usual(prompts, *how))
    return found


def test_each_text_is_encoded_once_when_it_is_needed(model, encoded):
    embeddings = TextEmbeddings(model, [[C, A], [A, B], [B, C]])
    assert encoded == []

    for turn, expected in enumerate(({A, C}, {A, B}, {B, C})):
        assert embeddings.of(turn).keys() == expected

    assert sorted(encoded) == [[""], ["a cat"], ["a dog in the snow"]]  # the texts of a turn in any order


def test_an_embedding_is_the_same_bits_whatever_is_encoded_beside_it(model):
    together = TextEmbeddings(model, [{A, B, C}]).of(0)
    alone = TextEmbeddings(model, [{B}]).of(0)

    for name, values in alone[B].items():
        assert np.array_equal(values.numpy(), together[B][name].numpy())


def test_what_is_kept_has_a_bound_and_what_is_needed_last_goes_first(model, encoded):
    uses = [{A}, {B}, {C}, {C}, {B}, {A}]
    embeddings = TextEmbeddings(model, uses, most_bytes=2 * BYTES)

    for turn in range(len(uses)):
        embeddings.of(turn)
        assert len(embeddings._kept) <= 2
    assert [one for (one,) in encoded] == ["a cat", "a dog in the snow", "", "a cat"]
    assert embeddings._kept == {}


def test_nothing_that_was_encoded_remembers_its_gradient(model):
    (values,) = {name: one for name, one in TextEmbeddings(model, [{A}]).of(0)[A].items()}.values()

    assert values.stop_gradient and isinstance(values, paddle.Tensor)
