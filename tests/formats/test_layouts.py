import pickle

import numpy as np
import pytest

from helpers.embedding_samples import read_one, stored
from helpers.strangers import VECTORS
from helpers.torch_samples import TORCH_FILES
from textual_inversion.formats.embedding_file import NotAnEmbedding, WrongValues, read_embeddings
from textual_inversion.formats.layouts import group_vectors
from textual_inversion.formats.safetensors_file import safetensors_bytes
from textual_inversion.formats.torch_writer import torch_bytes


@pytest.mark.parametrize("key", ["emb_params", "emp_params", "*"])
def test_files_without_a_name_take_that_of_the_file(tmp_path, key):
    assert read_one(tmp_path, safetensors_bytes({key: VECTORS}, {})).placeholder_token == "my-cat"


def test_output_vectors_of_onetrainer_are_named_as_left_out(tmp_path):
    tensors = {"clip_l": VECTORS, "clip_g": VECTORS, "clip_l_out": VECTORS, "clip_g_out": VECTORS}
    read = read_one(tmp_path, safetensors_bytes(tensors, {}))
    assert (list(read.vectors), read.metadata["left_out"]) == (
        ["text_encoder", "text_encoder_2"],
        "clip_g_out, clip_l_out",
    )
    with pytest.raises(NotAnEmbedding, match="only output vectors"):
        read_one(tmp_path, safetensors_bytes({"emp_params_out": VECTORS}, {}))


@pytest.mark.parametrize("keys", [["emp_params"], ["clip_l", "clip_g"]])
def test_zeros_beside_output_vectors_are_no_embedding(tmp_path, keys):
    """OneTrainer fills the place of the vectors with zeros where it has learned output vectors only."""
    tensors = {key: np.zeros_like(VECTORS) for key in keys} | {f"{key}_out": VECTORS for key in keys}
    with pytest.raises(NotAnEmbedding, match="only output vectors"):
        read_one(tmp_path, safetensors_bytes(tensors, {}))


def test_a_token_is_read_in_the_composed_form(tmp_path):
    read = read_one(tmp_path, safetensors_bytes({"<cafe\u0301>": VECTORS}, {}))
    assert read.placeholder_token == "<caf\u00e9>"


@pytest.mark.parametrize(
    ("tensors", "error", "words"),
    [
        ({"lora.down": np.ones((4, 320)), "lora.up": np.ones((640, 4))}, NotAnEmbedding, "a model or a LoRA"),
        ({"conv": np.ones((4, 4, 3, 3)), "bias": np.ones(4)}, NotAnEmbedding, "a model or a LoRA"),
        ({"table": np.ones((2000, 4))}, NotAnEmbedding, "a whole table"),
        ({"clip_g": np.ones((1, 4))}, NotAnEmbedding, "without those for clip_l"),
        ({"clip_l": np.ones((1, 4)), "clip_g": np.ones((2, 4))}, WrongValues, "1 vectors for one text encoder and 2"),
        ({"clip_l": np.ones((1, 4)), "t5": np.ones((1, 4))}, NotAnEmbedding, "T5"),
        ({"<t>": np.ones((2, 3, 4))}, WrongValues, r"shape \[2, 3, 4\]"),
        ({"<t>": np.ones((0, 4))}, WrongValues, r"shape \[0, 4\]"),
        ({"<t>": np.full((1, 4), np.nan)}, WrongValues, "NaN or infinite"),
        ({"<t>": np.full((1, 4), np.inf)}, WrongValues, "NaN or infinite"),
        ({}, NotAnEmbedding, "instead of learned vectors"),
    ],
)
def test_other_contents_are_named(tmp_path, tensors, error, words):
    with pytest.raises(error, match=words):
        read_one(tmp_path, safetensors_bytes(tensors, {}))


@pytest.mark.parametrize("shape", [(1, 4), (4,), (1, 1, 4), (2, 4), (1, 2, 4), (2, 1, 4), (1, 1, 2, 4)])
@pytest.mark.parametrize("key", ["<t>", "emb_params", "*"])
def test_axes_of_one_say_nothing(tmp_path, shape, key):
    values = np.arange(np.prod(shape), dtype=np.float32) + 1
    read = read_one(tmp_path, safetensors_bytes({key: values.reshape(shape)}, {}))
    np.testing.assert_array_equal(read.vectors["text_encoder"], values.reshape(-1, 4))
    assert read_one(tmp_path, pickle.dumps({key: values.reshape(shape)})).num_vectors == len(values) // 4


@pytest.mark.parametrize(
    "names",
    [("text_encoders_0", "text_encoders_1"), ("text_encoder_0", "text_encoder_1"), ("text_encoder", "text_encoder_2")],
)
@pytest.mark.parametrize("end", ["", "_out"])
def test_the_text_encoders_under_other_names(tmp_path, names, end):
    tensors = dict(zip(names, (VECTORS, np.ones((2, 6), np.float32)), strict=True))
    tensors |= {f"{name}_out": array for name, array in tensors.items()} if end else {}
    read = read_one(tmp_path, safetensors_bytes(tensors, {}))
    assert read.placeholder_token == "my-cat" and read.widths == {"text_encoder": 4, "text_encoder_2": 6}
    np.testing.assert_array_equal(read.vectors["text_encoder"], VECTORS)
    assert read_one(tmp_path, safetensors_bytes({names[0]: VECTORS}, {})).widths == {"text_encoder": 4}


@pytest.mark.parametrize("name", ["text_encoders_1", "text_encoder_2"])
def test_a_second_text_encoder_alone_is_named(tmp_path, name):
    with pytest.raises(NotAnEmbedding, match="for clip_g without those for clip_l"):
        read_one(tmp_path, safetensors_bytes({name: VECTORS}, {}))


def test_what_another_program_says_of_the_base_model_is_a_hint(tmp_path):
    hint = safetensors_bytes({"<t>": VECTORS}, {"base_model": "SD 1.5\x1b[31m", "steps": "3"})
    assert read_one(tmp_path, hint).metadata == {"learned_on": "SD 1.5\N{REPLACEMENT CHARACTER}[31m", "steps": "3"}
    own = safetensors_bytes({"<t>": VECTORS}, {"base_model": "me/sd", "placeholder_token": "<t>"})
    assert read_one(tmp_path, own).metadata["base_model"] == "me/sd"


@pytest.mark.parametrize("count", [1, 12, 4000])
def test_the_vectors_of_a_concept_end_at_the_first_gap(count):
    names = [f"<a>_{index}" for index in range(count, 0, -1)]
    assert group_vectors(["<a>", *names])["<a>"] == ["<a>", *reversed(names)]
    assert list(group_vectors(["<a>", *names[:-1]])) == ["<a>", *names[:-1]]  # without the first


def test_whole_numbers_are_no_vectors(tmp_path):
    with pytest.raises(WrongValues, match="int64 instead of floating-point"):
        read_one(tmp_path, TORCH_FILES["integer_bin"])


# ------------------------------------------------------------------------------------------------------- Determined


def test_determineds_dictionary_of_concepts_is_read_with_what_they_started_from(tmp_path):
    first, second = (np.random.default_rng(i).standard_normal((n, 8), np.float32) for i, n in ((0, 3), (1, 1)))
    content = {
        "det-logo": {"initializer_strs": "brain logo, sharp lines", "learned_embeddings": first},
        "<style>": {"initializer_tokens": "painting", "learned_embeddings": second},
    }

    logo, style = read_embeddings(stored(tmp_path, torch_bytes(content), "learned_embeddings_dict.pt"))

    assert (logo.placeholder_token, style.placeholder_token) == ("det-logo", "<style>")
    np.testing.assert_array_equal(logo.vectors["text_encoder"], first)
    np.testing.assert_array_equal(style.vectors["text_encoder"], second)
    assert logo.metadata == {"initializer_strs": "brain logo, sharp lines"}
    assert style.metadata == {"initializer_tokens": "painting"}


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        ({"learned_embeddings": "text"}, NotAnEmbedding),
        ({"learned_embeddings": None}, NotAnEmbedding),
        ({"learned_embeddings": np.full((1, 4), np.nan, np.float32)}, WrongValues),
        ({"learned_embeddings": np.ones((2, 3, 4), np.float32)}, WrongValues),
        ({"learned_embeddings": {"a": 1}}, NotAnEmbedding),
        ({"initializer_strs": "a"}, NotAnEmbedding),
    ],
)
def test_a_dictionary_that_looks_like_determineds_is_refused_by_what_is_wrong(tmp_path, entry, error):
    with pytest.raises(error, match="my-cat.xyz: holds"):
        read_embeddings(stored(tmp_path, torch_bytes({"<t>": entry})))
