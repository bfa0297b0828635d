import tracemalloc

import numpy as np
import pytest

from helpers.embedding_samples import read_one, stored
from helpers.fuzz_formats import most_memory
from helpers.strangers import VECTORS, zip_of
from helpers.torch_samples import TORCH_FILES
from textual_inversion.formats.budget import MOST_PARTS, Budget
from textual_inversion.formats.embedding_file import AsksTooMuch, BrokenFile, read_pickled_tensors
from textual_inversion.formats.torch_file import MOST_DIRECTORY_BYTES, Archive


@pytest.mark.parametrize(
    ("name", "token", "metadata"),
    [
        ("diffusers_bin", "<cat>", {}),
        ("diffusers_plain", "<cat>", {}),
        ("a1111_pt", "cat-toy", {"learned_on": "v1-5-pruned", "steps": "500"}),
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
    position = data.index(VECTORS.tobytes())
    with pytest.raises(BrokenFile, match="checksum of its part .*/data/0 does not match"):
        read_one(tmp_path, data[:position] + b"\xff" + data[position + 1 :])


def test_an_archive_whose_parts_overlap_is_refused():
    """Each check sum would walk over the same megabyte."""
    data = bytearray(zip_of(("a/data.pkl", b"\x80\x02}."), ("a/data/0", bytes(1 << 20)), ("a/data/1", b"x")))
    second, third = (data.index(name, data.index(b"PK\x01\x02")) - 46 for name in (b"a/data/0", b"a/data/1"))
    data[third + 16 : third + 28] = data[second + 16 : second + 28]  # check sum and sizes
    data[third + 42 : third + 46] = data[second + 42 : second + 46]  # where it begins
    with pytest.raises(BrokenFile, match="parts overlap"):
        Archive(memoryview(bytes(data)), Budget.of_weights(len(data)))


@pytest.mark.parametrize("entries", [MOST_PARTS + 1, 100_000])
def test_an_archive_of_too_many_parts_is_refused_within_little_memory(entries):
    entry = b"PK\x01\x02" + bytes(24) + b"\x05\x00" + bytes(16)
    directory = b"".join(entry + b"%05d" % number for number in range(entries))
    end = b"PK\x05\x06" + bytes(8) + len(directory).to_bytes(4, "little") + bytes(6)
    tracemalloc.start()
    with pytest.raises(AsksTooMuch, match="is a zip archive (of|with)"):
        Archive(memoryview(directory + end), Budget.of_weights(len(directory)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6


@pytest.mark.slow
def test_the_longest_directory_that_is_read_takes_little_memory():
    """Of the shortest entries, all distinct."""
    count = MOST_DIRECTORY_BYTES // 49
    entry = b"PK\x01\x02" + bytes(24) + b"\x03\x00" + bytes(16)
    directory = b"".join(entry + number.to_bytes(3, "big").replace(b"\0", b"\1") for number in range(count))
    end = b"PK\x05\x06" + bytes(8) + len(directory).to_bytes(4, "little") + bytes(6)
    tracemalloc.start()
    with pytest.raises(AsksTooMuch, match="more than 20000 parts"):
        Archive(memoryview(directory + end), Budget.of_weights(len(directory)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < most_memory(len(directory))
