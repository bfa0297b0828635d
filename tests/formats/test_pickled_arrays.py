import pickle

import numpy as np
import pytest

from helpers.embedding_samples import read_one, stored
from helpers.strangers import VECTORS, numpy_pickles
from textual_inversion.formats.embedding_file import AsksTooMuch, read_pickled_tensors


@pytest.mark.parametrize("name", list(numpy_pickles()))
def test_every_protocol_of_numpy_is_read(tmp_path, name):
    read = read_one(tmp_path, numpy_pickles()[name])
    assert read.placeholder_token == "<cat>"
    np.testing.assert_array_equal(read.vectors["text_encoder"], VECTORS)


def test_integers_and_tied_weights_stay(tmp_path):
    ids = np.arange(5)
    table = {"ids": ids, "mask": ids > 2, "one": VECTORS.astype(np.float16), "half": VECTORS.astype(np.float64)}
    tensors = read_pickled_tensors(stored(tmp_path, pickle.dumps(table)))
    assert {name: str(tensor.dtype) for name, tensor in tensors.items()} == {
        "ids": "int64", "mask": "bool", "one": "float32", "half": "float32"
    }  # fmt: skip
    np.testing.assert_array_equal(tensors["ids"], ids)


def _half_array(is_first: bool, length: int) -> bytes:
    """A float16 array whose bytes stand in the file once and are taken from the memo afterwards."""
    values = b"B" + (2 * length).to_bytes(4, "little") + bytes(2 * length) + b"q\xff" if is_first else b"h\xff"
    head = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01J"
    return (
        head
        + length.to_bytes(4, "little")
        + b"\x85cnumpy\ndtype\nX\x02\x00\x00\x00f2\x89\x88\x87R\x89"
        + values
        + b"tb"
    )


def test_many_tensors_over_the_same_values_are_bounded(tmp_path):
    block = np.zeros(1 << 16, np.float16)
    data = pickle.dumps({str(index): block.view() for index in range(2)}, 4)
    again = b"\x80\x04}" + b"".join(
        b"X\x04\x00\x00\x00%04d" % index + _half_array(index == 0, len(block)) + b"s" for index in range(500)
    )
    assert len(read_pickled_tensors(stored(tmp_path, data))) == 2
    with pytest.raises(AsksTooMuch, match="asks for too much: more than 2 MB of values"):
        read_pickled_tensors(stored(tmp_path, again + b"."))
