import pickle

import numpy as np
import paddle
import pytest

from helpers.embedding_samples import concept, concept_xl, stored
from helpers.strangers import VECTORS
from textual_inversion.formats.embedding_file import read_embeddings, read_pickled_tensors, write_pdparams
from textual_inversion.formats.paddle_file import pdparams_bytes


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("shape", [[4], [1, 4], [2, 4]])
def test_paddle_save_is_read(tmp_path, protocol, shape):
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    paddle.save({"<cat>": paddle.to_tensor(values)}, str(tmp_path / "f"), protocol=protocol)
    (read,) = read_embeddings(tmp_path / "f")
    assert read.placeholder_token == "<cat>"
    np.testing.assert_array_equal(read.vectors["text_encoder"], values.reshape(-1, 4))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_paddle_save_of_other_precision_becomes_float32(tmp_path, dtype):
    paddle.save({"<cat>": paddle.to_tensor(VECTORS).astype(dtype), "step": 3}, str(tmp_path / "f"))
    (read,) = read_embeddings(tmp_path / "f")
    assert read.vectors["text_encoder"].dtype == np.float32
    np.testing.assert_array_equal(read.vectors["text_encoder"], VECTORS)


@pytest.mark.parametrize("protocol", [2, 4])
def test_paddle_weights_are_read_and_can_be_loaded(tmp_path, protocol):
    layer, other = paddle.nn.Linear(3, 5), paddle.nn.Linear(3, 5)
    paddle.save(layer.state_dict(), str(tmp_path / "model_state.pdparams"), protocol=protocol)
    tensors = read_pickled_tensors(tmp_path / "model_state.pdparams")
    other.set_state_dict(tensors)
    np.testing.assert_array_equal(other.weight.numpy(), layer.weight.numpy())
    np.testing.assert_array_equal(other.bias.numpy(), layer.bias.numpy())


def test_slices_of_large_arrays_are_joined(tmp_path):
    table = {"a@@.0": VECTORS.ravel()[:5], "a@@.1": VECTORS.ravel()[5:]}
    table["UnpackBigParamInfor@@"] = {"a": {"OriginShape": (2, 4), "slices": ["a@@.0", "a@@.1"]}}
    tensors = read_pickled_tensors(stored(tmp_path, pickle.dumps(table, 2)))
    assert list(tensors) == ["a"]
    np.testing.assert_array_equal(tensors["a"], VECTORS)


def test_a_pdparams_is_read_by_pickle_alone():
    loaded = pickle.loads(pdparams_bytes({"<t>": VECTORS[:1]}))
    assert loaded["StructuredToParameterName@@"] == {"<t>": "<t>"}
    np.testing.assert_array_equal(loaded["<t>"], VECTORS[:1])


def test_paddle_load_gives_one_tensor_per_vector_and_the_documented_loop_works(tmp_path):
    write_pdparams(tmp_path / "f.pdparams", [concept("<a>", 3), concept("<b>", 1, seed=1)])
    loaded = paddle.load(str(tmp_path / "f.pdparams"))
    assert list(loaded) == ["<a>", "<a>_1", "<a>_2", "<b>"]
    layer = paddle.nn.Embedding(4, 4)
    for token_id, (_token, embeds) in enumerate(loaded.items()):
        assert isinstance(embeds, paddle.Tensor) and embeds.shape == [1, 4] and embeds.dtype == paddle.float32
        with paddle.no_grad():
            layer.weight[token_id] = embeds
    expected = np.concatenate(
        [concept("<a>", 3).vectors["text_encoder"], concept("<b>", 1, 4, 1).vectors["text_encoder"]]
    )
    np.testing.assert_array_equal(layer.weight.numpy(), expected)


def test_paddle_load_gives_tensors_for_two_encoders(tmp_path):
    write_pdparams(tmp_path / "f.pdparams", [concept_xl("<a>")])
    loaded = paddle.load(str(tmp_path / "f.pdparams"))
    assert {name: list(part) for name, part in loaded.items()} == {
        "clip_l": ["<a>", "<a>_1"],
        "clip_g": ["<a>", "<a>_1"],
    }
    assert isinstance(loaded["clip_g"]["<a>_1"], paddle.Tensor) and loaded["clip_g"]["<a>_1"].shape == [1, 6]
