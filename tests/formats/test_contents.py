"""Container, layout and types of embedding files of every kind."""

import pickle

import numpy as np
import pytest

from helpers.embedding_samples import stored
from helpers.strangers import VECTORS, valid_files
from helpers.torch_samples import TORCH_FILES
from textual_inversion.formats.contents import read_contents
from textual_inversion.formats.embedding_file import BrokenFile, NotAnEmbedding, read_embeddings
from textual_inversion.formats.paddle_file import pdparams_bytes
from textual_inversion.formats.safetensors_file import safetensors_bytes

VALID = {name: data for name, data in valid_files().items() if name not in ("weights_bin", "state_dict_ckpt")}


@pytest.mark.parametrize("kind", VALID)
def test_every_file_that_is_read_has_a_description(tmp_path, kind):
    path = stored(tmp_path, VALID[kind])
    contents = read_contents(path)

    tokens = [one.placeholder_token for one in read_embeddings(path)]
    assert [one.placeholder_token for one in contents.embeddings] == tokens and contents.embeddings[0].source
    assert contents.container and contents.layout
    assert contents.types and set(contents.types) <= {"float16", "float32", "float64", "bfloat16"}


@pytest.mark.parametrize(
    ("data", "container", "layout", "types"),
    [
        (TORCH_FILES["a1111_pt"], "PyTorch's archive", "string_to_param", ("float16",)),
        (TORCH_FILES["diffusers_plain"], "before 1.6", "diffusers", ("float32",)),
        (pdparams_bytes({"<a>": VECTORS[:1], "<a>_1": VECTORS[1:]}), "Paddle", "per vector", ("float32",)),
        (safetensors_bytes({"emb_params": VECTORS}, {}, is_half=True), "safetensors", "kohya", ("float16",)),
        (VALID["bfloat16"], "safetensors", "diffusers", ("bfloat16",)),
        (VALID["double_safetensors"], "safetensors", "diffusers", ("float64",)),
        (VALID["safetensors_sdxl"], "safetensors", "clip_l and clip_g", ("float32",)),
        (safetensors_bytes({"text_encoders_0": VECTORS, "text_encoders_1": VECTORS}, {}), "safetensors",
         "a tensor per text encoder", ("float32",)),
        (VALID["determined"], "PyTorch's archive", "Determined", ("float32",)),
        (VALID["onetrainer"], "safetensors", "OneTrainer", ("float32",)),
        (VALID["webui_png"], "PNG", "string_to_param", ("float32",)),
        (pickle.dumps({"<a>": VECTORS[:1], "<b>": VECTORS[:1].astype(np.float16)}), "pickle", "per concept",
         ("float16", "float32")),
    ],
)  # fmt: skip
def test_container_layout_and_types_are_told(tmp_path, data, container, layout, types):
    contents = read_contents(stored(tmp_path, data))

    assert container in contents.container and layout in contents.layout and contents.types == types


def test_errors_are_those_of_the_reader(tmp_path):
    with pytest.raises(BrokenFile, match="is empty"):
        read_contents(stored(tmp_path, b""))
    with pytest.raises(NotAnEmbedding, match="my-cat.xyz: "):
        read_contents(stored(tmp_path, b"hello"))
