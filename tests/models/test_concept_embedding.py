"""The new rows are the only parameters."""

import numpy as np
import paddle
import pytest

from textual_inversion.models.concept_embedding import ConceptEmbedding, attach, table_of

V, D, N = 6, 4, 2


@pytest.fixture
def table():
    return paddle.to_tensor(np.random.default_rng(0).standard_normal((V, D)).astype("float32"))


@pytest.fixture
def rows():
    return np.random.default_rng(1).standard_normal((N, D)).astype("float32")


def test_lookup_takes_old_ids_from_the_table_and_new_ones_from_the_rows(table, rows):
    ids = paddle.to_tensor([[0, 5, 6], [7, 6, 2]])

    found = ConceptEmbedding(table, [rows])(ids)

    expected = np.concatenate([table.numpy(), rows])[ids.numpy()]
    np.testing.assert_array_equal(found.numpy(), expected)


def test_what_the_rows_started_from_can_be_read_when_they_have_moved(table, rows):
    layer = ConceptEmbedding(table, [rows[:1], rows[1:]])
    started = paddle.to_tensor([V + 2 * N, V + 2 * N + 1])

    layer(started).sum().backward()
    assert all(part.grad is None or not part.grad.numpy().any() for part in layer.parts)
    for part in layer.parts:
        part.set_value(part + 1.0)

    np.testing.assert_array_equal(layer(started).numpy(), rows)
    np.testing.assert_array_equal(layer(paddle.to_tensor([V, V + 1])).numpy(), rows + 1.0)
    assert not layer.state_dict().keys() & {"start", "table"}


def test_only_the_rows_are_parameters_and_get_gradients(table, rows):
    before = table.numpy().copy()
    layer = ConceptEmbedding(table, [rows])

    layer(paddle.to_tensor([[0, 7, 7]])).sum().backward()

    assert [tuple(p.shape) for p in layer.parameters()] == [(N, D)]
    np.testing.assert_array_equal(layer.vectors.grad.numpy(), [[0] * D, [2] * D])
    assert table.grad is None
    optimizer = paddle.optimizer.AdamW(0.1, parameters=layer.parameters(), weight_decay=0.5)
    optimizer.step()
    np.testing.assert_array_equal(layer.table.numpy(), before)


def test_the_table_is_shared_not_copied(table, rows):
    layer = ConceptEmbedding(table, [rows])

    assert layer.table.data_ptr() == table.data_ptr()


def test_rows_of_another_width_are_refused(table):
    with pytest.raises(ValueError, match="width 4"):
        ConceptEmbedding(table, [np.zeros((1, 3), dtype="float32")])


class Encoder:
    """As much of a text encoder as `attach` needs."""

    def __init__(self, layer):
        self.layer = layer

    def get_input_embeddings(self):
        return self.layer

    def set_input_embeddings(self, layer):
        self.layer = layer


def test_attaching_again_replaces_the_rows_and_keeps_the_table(rows):
    plain = paddle.nn.Embedding(V, D)
    encoder = Encoder(plain)

    attach(encoder, rows)
    second = attach(encoder, rows[:1])

    assert second.first_id == V
    assert tuple(second.vectors.shape) == (1, D)
    np.testing.assert_array_equal(table_of(encoder).numpy(), plain.weight.numpy())


def test_what_casts_the_output_casts_that_of_the_next_vectors_too():
    encoder = Encoder(paddle.nn.Embedding(V, D))
    first = attach(encoder, np.ones((1, D)))
    first.register_forward_post_hook(lambda _layer, _inputs, output: output.astype("float16"))

    second = attach(encoder, np.zeros((2, D)))

    assert encoder.get_input_embeddings() is second and second.vectors.shape == [2, D]
    assert second(paddle.to_tensor([0, V, V + 1])).dtype == paddle.float16
