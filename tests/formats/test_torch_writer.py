"""Archives for `torch.load`, written without PyTorch. `benchmarks/interop.py` loads them with the real one."""

import io
import pickletools
import zipfile

import numpy as np
import pytest

from textual_inversion.formats.budget import Budget
from textual_inversion.formats.pickled_arrays import array_of
from textual_inversion.formats.torch_file import read_archive
from textual_inversion.formats.torch_writer import torch_bytes

CONTENT = {
    "string_to_token": {"*": 265},
    "string_to_param": {"*": np.arange(6, dtype=np.float32).reshape(2, 3)},
    "half": np.ones((1, 3), np.float16),
    "name": "<猫>",
    "step": 5_000_000_000,
    "below": -3,
    "nothing": None,
    "flat": np.arange(4, dtype=np.float32),
}
# What `torch.load(weights_only=True)` lets a file ask for, of what is written here.
ALLOWED = {
    "torch._utils _rebuild_tensor_v2",
    "torch FloatStorage",
    "torch HalfStorage",
    "collections OrderedDict",
}


def read(data: bytes):
    return read_archive(memoryview(data), Budget.of_embedding(len(data)))


def test_what_was_written_is_read_with_its_types_and_shapes():
    found = read(torch_bytes(CONTENT))

    plain = {key: value for key, value in CONTENT.items() if not isinstance(value, (np.ndarray, dict))}
    assert {key: found[key] for key in plain} == plain and list(found) == list(CONTENT)
    assert found["string_to_token"] == {"*": 265} and found["half"].stored_type == "float16"
    for one, wanted in ((found["string_to_param"]["*"], CONTENT["string_to_param"]["*"]),
                        (found["half"], CONTENT["half"]), (found["flat"], CONTENT["flat"])):  # fmt: skip
        assert one.stored_shape == wanted.shape
        np.testing.assert_array_equal(array_of(one), wanted)


def test_equal_input_gives_equal_bytes_and_nothing_of_the_moment_or_the_machine():
    assert torch_bytes(CONTENT) == torch_bytes(dict(CONTENT))
    for entry in zipfile.ZipFile(io.BytesIO(torch_bytes(CONTENT))).infolist():
        assert entry.date_time == (1980, 1, 1, 0, 0, 0) and entry.create_system == 0


def test_the_archive_has_the_parts_of_pytorch_uncompressed_and_aligned():
    data = torch_bytes(CONTENT)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = {entry.filename: entry for entry in archive.infolist()}
        assert archive.read("archive/version") == b"3\n" and archive.read("archive/byteorder") == b"little"
        assert archive.testzip() is None
        for name, entry in names.items():
            assert entry.compress_type == zipfile.ZIP_STORED
            if name.startswith("archive/data/"):
                begin = data.index(archive.read(name), entry.header_offset)
                assert begin % 64 == 0, name
    assert {name for name in names if name.startswith("archive/data/")} == {f"archive/data/{i}" for i in range(3)}


def test_the_pickle_asks_for_tensors_alone_in_the_protocol_that_pytorch_reads():
    with zipfile.ZipFile(io.BytesIO(torch_bytes(CONTENT))) as archive:
        operations = list(pickletools.genops(archive.read("archive/data.pkl")))

    assert operations[0][0].name == "PROTO" and operations[0][1] == 2
    assert {arg for code, arg, _ in operations if code.name == "GLOBAL"} == ALLOWED
    assert not {code.name for code, _, _ in operations} & {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "BUILD", "EXT1"}


@pytest.mark.parametrize("value", [1.5, [1], b"x", True, {"a": object()}])
def test_what_an_embedding_never_holds_is_not_written(value):
    with pytest.raises(TypeError, match="is not written"):
        torch_bytes({"a": value})
