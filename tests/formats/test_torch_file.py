import numpy as np
import pytest

from helpers.embedding_samples import read_one, stored
from helpers.strangers import VECTORS
from helpers.torch_samples import TORCH_FILES
from textual_inversion.formats.embedding_file import BrokenFile, read_pickled_tensors


@pytest.mark.parametrize(
    ("name", "token", "metadata"),
    [
        ("diffusers_bin", "<cat>", {}),
        ("diffusers_plain", "<cat>", {}),
        ("a1111_pt", "cat-toy", {"base_model": "v1-5-pruned", "steps": "500"}),
        ("original_pt", "my-cat", {}),
        ("kohya_pt", "k", {}),
        ("float64_bin", "<cat>", {}),
    ],
)
def test_torch_files_are_read(tmp_path, name, token, metadata):
    read = read_one(tmp_path, TORCH_FILES[name])
    assert (read.placeholder_token, read.metadata) == (token, metadata)
    np.testing.assert_array_equal(read.vectors["text_encoder"], VECTORS)


def test_torch_bfloat16_of_two_encoders_is_read(tmp_path):
    read = read_one(tmp_path, TORCH_FILES["sdxl_pt"])
    np.testing.assert_array_equal(read.vectors["text_encoder"], VECTORS)
    np.testing.assert_array_equal(read.vectors["text_encoder_2"], np.concatenate([VECTORS, VECTORS], axis=1))


def test_a_torch_tensor_with_strides_is_read(tmp_path):
    read = read_one(tmp_path, TORCH_FILES["columns_bin"])
    np.testing.assert_array_equal(read.vectors["text_encoder"], np.arange(12.0).reshape(3, 4)[:, :2].T)


@pytest.mark.parametrize("name", ["weights_bin", "state_dict_ckpt"])
def test_torch_weights_are_read(tmp_path, name):
    tensors = read_pickled_tensors(stored(tmp_path, TORCH_FILES[name]))
    weight, bias = tensors.values()
    np.testing.assert_array_equal(weight, VECTORS)
    np.testing.assert_array_equal(bias, [1, 2])


def test_a_damaged_archive_is_noticed(tmp_path):
    data = TORCH_FILES["diffusers_bin"]
    place = data.index(VECTORS.tobytes())
    with pytest.raises(BrokenFile, match="check sum of its part .*/data/0 does not match"):
        read_one(tmp_path, data[:place] + b"\xff" + data[place + 1 :])
