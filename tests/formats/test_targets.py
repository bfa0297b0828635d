"""Each layout that is written, against the description of it: keys, types, metadata; and read back to the last bit."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from helpers.embedding_samples import assert_same, concept, concept_xl, stored
from textual_inversion.formats.budget import Budget
from textual_inversion.formats.contents import read_contents
from textual_inversion.formats.embedding_file import read_embeddings
from textual_inversion.formats.pickled_arrays import shape_of, type_of
from textual_inversion.formats.targets import TARGETS, Cover, Writing, cover_metadata, drawn, of_ending
from textual_inversion.formats.torch_file import read_archive

ONE = concept("<cat>", vectors=3, width=8, steps="300", base_model="owner/model", learnable_property="style")
XL = concept_xl("<cat>")
# Keys of the tensors in the file, for one text encoder and for two; None: it cannot hold two, or has a file for each.
KEYS = {
    "safetensors": (["<cat>"], ["clip_g", "clip_l"]),
    "kohya": (["emb_params"], ["clip_g", "clip_l"]),
    "invoke": (["emb_params"], ["clip_g", "clip_l"]),
    "comfyui": (["emb_params"], ["clip_g", "clip_l"]),
    "onetrainer": (["emp_params"], ["clip_g", "clip_l"]),
}


def content_of(name: str, embedding, **writing) -> bytes:
    return TARGETS[name].encode([embedding], Writing(**writing))


@pytest.mark.parametrize("name", TARGETS)
def test_one_text_encoder_is_read_back_to_the_last_bit(tmp_path, name):
    (read,) = read_embeddings(stored(tmp_path, content_of(name, ONE), f"<cat>{TARGETS[name].ending}"))

    assert_same(read, ONE)


@pytest.mark.parametrize("name", [name for name, t in TARGETS.items() if t.most_encoders > 1 and not t.splits_encoders])
def test_two_text_encoders_are_read_back_to_the_last_bit(tmp_path, name):
    (read,) = read_embeddings(stored(tmp_path, content_of(name, XL), f"<cat>{TARGETS[name].ending}"))

    assert_same(read, XL)


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("is_half", [False, True])
def test_safetensors_hold_the_tensors_under_the_keys_of_the_program_and_all_metadata(tmp_path, name, is_half):
    for embedding, keys in zip((ONE, XL), KEYS[name], strict=True):
        path = stored(tmp_path, content_of(name, embedding, is_half=is_half), "a.safetensors")
        with safe_open(path, "np") as file:
            assert sorted(file.keys()) == keys
            assert {file.get_tensor(key).dtype.name for key in keys} == {"float16" if is_half else "float32"}
            said = file.metadata()
        assert said == {"format": "pt", "placeholder_token": "<cat>", **embedding.metadata}


@pytest.mark.parametrize("is_half", [False, True])
def test_the_web_uis_dictionary_has_its_entries_in_its_types(is_half):
    data = content_of("webui-pt", ONE, is_half=is_half)
    found = read_archive(memoryview(data), Budget.of_embedding(len(data)))

    assert type(found) is dict and found["string_to_token"] == {"*": 265} and found["sd_checkpoint"] is None
    assert (found["name"], found["step"], found["sd_checkpoint_name"]) == ("<cat>", 300, "owner/model")
    assert list(found["string_to_param"]) == ["*"] and shape_of(found["string_to_param"]["*"]) == (3, 8)
    assert type_of(found["string_to_param"]["*"]) == ("float16" if is_half else "float32")


@pytest.mark.parametrize("steps", ["", "many", "-1", "1" * 30, "²"])
def test_steps_that_are_no_number_are_left_out_of_the_web_uis_files(steps):
    data = content_of("webui-pt", concept(steps=steps))

    assert read_archive(memoryview(data), Budget.of_embedding(len(data)))["step"] is None


def test_of_an_sdxl_concept_the_web_ui_gets_its_two_tensors_and_nothing_else():
    data = content_of("webui-pt", XL)

    assert list(read_archive(memoryview(data), Budget.of_embedding(len(data)))) == ["clip_l", "clip_g"]


def test_diffusers_gets_one_key():
    data = content_of("diffusers-bin", ONE)

    assert list(read_archive(memoryview(data), Budget.of_embedding(len(data)))) == ["<cat>"]


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.shows_cover])
def test_the_cover_is_where_programs_look_for_it(tmp_path, name):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    path = stored(tmp_path, content_of(name, ONE, cover=Cover(buffer.getvalue(), pixels)), "a")

    if name == "webui-png":
        shown = np.asarray(Image.open(path))
        edge = (shown.shape[1] - 60) // 2
        np.testing.assert_array_equal(shown[:, edge:-edge], pixels)
        return
    with safe_open(path, "np") as file:
        said = file.metadata()
    assert [base64.b64decode(one) for one in json.loads(said["ssmd_cover_images"])] == [buffer.getvalue()]
    head, _, data = said["modelspec.thumbnail"].partition(",")
    assert head == "data:image/jpeg;base64" and base64.b64decode(data) == buffer.getvalue()
    assert cover_metadata(buffer.getvalue()).items() <= read_contents(path).metadata.items()


def test_an_image_is_drawn_of_the_vectors_where_there_is_none():
    image = drawn(np.array([[1.0, -1.0, 0.0, 0.5]], np.float32), side=4)

    assert image.shape == (4, 4, 3) and image.dtype == np.uint8
    assert image[0, 0].tolist() == [255, 55, 55] and image[0, 3].tolist() == [55, 55, 255]  # red above zero, blue below
    assert image[3, 0].tolist() == [255, 255, 255] and image[3, 3].tolist() == [255, 155, 155]
    assert drawn(np.zeros((1, 3), np.float32)).min() == 255


@pytest.mark.parametrize("name", TARGETS)
def test_equal_input_gives_equal_bytes(name):
    assert content_of(name, ONE) == content_of(name, concept("<cat>", vectors=3, width=8, **ONE.metadata))


def test_an_ending_stands_for_the_first_program_that_has_it():
    assert {of_ending(f"a/B{one.ending.upper()}") for one in TARGETS.values()} == set(list(TARGETS)[:5])
    assert of_ending("new") is None and of_ending("folder.d/") is None
