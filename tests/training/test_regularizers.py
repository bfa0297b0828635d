"""Penalties against their formulas written out in NumPy."""

import numpy as np
import paddle
import pytest

from textual_inversion.models.attach import attach_concepts
from textual_inversion.models.concept_embedding import table_of
from textual_inversion.training import regularizers

PROMPTS = ["a photo of a <t>", "the <t>, a toy"]


@pytest.fixture
def embeddings(model):
    vectors = np.random.default_rng(0).standard_normal((3, model.embedding_width)).astype("float32")
    return attach_concepts(model, {"<t>": 3}, {"text_encoder": vectors})


def make(model, embeddings, **weights):
    return regularizers.Regularizer(model, embeddings, {"<t>": "grey cat"}, **weights)


def penalty(regularizer, model, prompts=PROMPTS):
    return regularizer.penalty(prompts, None, model.encode_prompts(prompts).hidden_states)


def test_norms_are_drawn_to_the_tables_mean_norm(model, embeddings):
    vectors, table = embeddings["text_encoder"].vectors.numpy(), table_of(model.text_encoders[0].layer).numpy()

    value = penalty(make(model, embeddings, norm_weight=0.5), model)

    target = np.linalg.norm(table, axis=1).mean()
    np.testing.assert_allclose(float(value), 0.5 * np.mean((np.linalg.norm(vectors, axis=1) - target) ** 2), rtol=1e-5)


def test_vectors_are_drawn_to_where_they_started(model, embeddings):
    regularizer = make(model, embeddings, initial_weight=2.0)
    part, shift = embeddings["text_encoder"].parts[0], np.linspace(0, 1, 3)[:, None]

    assert float(penalty(regularizer, model)) == 0.0
    part.set_value(part.numpy() + shift.astype("float32"))

    expected = 2.0 * np.mean(model.embedding_width * shift[:, 0] ** 2)
    np.testing.assert_allclose(float(penalty(regularizer, model)), expected, rtol=1e-4)


def test_hidden_states_are_drawn_to_the_initializers(model, embeddings):
    value = penalty(make(model, embeddings, hidden_weight=3.0), model)

    encode_ids, squared = model.text_encoders[0].encode_ids, []
    for prompt in PROMPTS:
        plain = prompt.replace("<t>", "grey cat")
        learned, wanted = (
            model.encode_prompts([text]).hidden_states[0, int(encode_ids.ends([text])[0])].numpy()
            for text in (prompt, plain)
        )
        squared.append((learned - wanted) ** 2)
    np.testing.assert_allclose(float(value), 3.0 * np.mean(squared), rtol=1e-4)


def test_the_gradient_reaches_the_vectors_and_no_weight_costs_nothing(model, embeddings):
    assert penalty(make(model, embeddings), model) == 0.0

    penalty(make(model, embeddings, norm_weight=1.0, hidden_weight=1.0), model).backward()

    assert (np.abs(embeddings["text_encoder"].parts[0].grad.numpy()).max(axis=1) > 0).all()


def test_a_state_is_taken_at_each_prompts_own_end():
    states = paddle.arange(24, dtype="float32").reshape([2, 4, 3])

    picked = regularizers.at_ends(states, np.array([3, 1]))

    np.testing.assert_array_equal(picked.numpy(), [[9, 10, 11], [15, 16, 17]])
