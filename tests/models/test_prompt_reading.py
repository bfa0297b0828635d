"""How prompts are read: by which layer of CLIP, in how many chunks; by value, and as ppdiffusers' pipelines do it."""

import numpy as np
import pytest

from helpers.tiny_models import build_model
from textual_inversion.embeddings.files import read_concept_files
from textual_inversion.formats.embedding_file import LearnedEmbedding, write_safetensors
from textual_inversion.models.attach import attach_concepts, attach_files
from textual_inversion.models.base_model import load_base_model
from textual_inversion.system.errors import SettingsError

PROMPTS = ["a photo of a toy in the snow", ""]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Family -> the folder of its tiny model; each is made once."""
    made = {}

    def get(family):
        if family not in made:
            made[family] = build_model(tmp_path_factory.mktemp(family) / "base", family)
        return made[family]

    return get


def states(model, prompts=PROMPTS):
    return model.encode_prompts(prompts).hidden_states.numpy()


@pytest.mark.parametrize(("family", "layer", "theirs"), [("sd1", 2, 1), ("sd2", 3, 2), ("sdxl", 2, None)])
def test_a_layer_counted_from_the_last_is_that_of_ppdiffusers_pipelines(folders, family, layer, theirs):
    model = load_base_model(folders(family), clip_skip=layer)

    ours = states(model, PROMPTS[:1])

    embedded = model.pipeline().encode_prompt(
        PROMPTS[0], num_images_per_prompt=1, do_classifier_free_guidance=False, clip_skip=theirs
    )
    np.testing.assert_array_equal(ours, embedded[0].numpy())
    if family != "sdxl":
        assert np.abs(ours - states(load_base_model(folders(family)), PROMPTS[:1])).max() > 1e-3


def test_in_sdxl_the_count_begins_at_its_own_second_last_layer(tmp_path):
    folder = build_model(tmp_path / "deep", "sdxl", text=dict(num_hidden_layers=3))
    model = load_base_model(folder, clip_skip=3)

    embedded = model.pipeline().encode_prompt(PROMPTS[0], do_classifier_free_guidance=False, clip_skip=1)

    np.testing.assert_array_equal(states(model, PROMPTS[:1]), embedded[0].numpy())
    assert np.abs(states(model) - states(load_base_model(folder))).max() > 1e-3


@pytest.mark.parametrize("family", ["sd1", "taiyi", "alt", "ldm"])
def test_the_models_own_layer_changes_no_bit(folders, family):
    np.testing.assert_array_equal(
        states(load_base_model(folders(family), clip_skip=1)), states(load_base_model(folders(family)))
    )


@pytest.mark.parametrize(
    ("family", "layer", "reason"),
    [
        ("taiyi", 2, "is a BertModel, whose last layer alone reads prompts"),
        ("alt", 2, "is a RobertaSeriesModelWithTransformation, whose last layer"),
        ("ldm", 2, "is a LDMBertModel, whose last layer"),
        ("sd1", 3, r"with the layers 1 \(its own\) to 2"),
        ("sdxl", 1, r"with the layers 2 \(its own\) to 2"),
    ],
)
def test_a_layer_that_cannot_read_prompts_is_refused_by_name(folders, family, layer, reason):
    with pytest.raises(SettingsError, match=reason):
        load_base_model(folders(family), clip_skip=layer)


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl", "taiyi", "alt", "ldm"])
def test_every_prompt_is_read_in_equally_many_chunks(folders, family):
    model, chunks = load_base_model(folders(family), max_token_length=150), 2
    room = model.text_encoders[0].encode_ids.room
    long = " ".join(["toy"] * room) + " in the snow"

    ours, length = states(model, [long, "toy"]), model.text_encoders[0].encode_ids.max_length

    plain = load_base_model(folders(family))
    assert ours.shape[1] == chunks * length
    for position, texts in enumerate([(" ".join(["toy"] * room), "toy"), ("in the snow", "")]):
        for row, text in enumerate(texts):
            part = ours[row, position * length : (position + 1) * length]
            np.testing.assert_allclose(part, states(plain, [text])[0], atol=2e-6)


def test_what_is_longer_than_all_chunks_is_cut_and_said(folders):
    model = load_base_model(folders("sd1"), max_token_length=150)
    encode_ids = model.text_encoders[0].encode_ids
    text = " ".join(["toy"] * 150)

    assert encode_ids.dropped(text) == "" and len(encode_ids.read_ids(text)) == 150
    assert encode_ids.dropped(text + " in the snow") == "in the snow"
    np.testing.assert_array_equal(states(model, [text + " in the snow"]), states(model, [text]))


def test_no_two_chunks_share_the_vectors_of_a_concept(folders):
    model = load_base_model(folders("sd1"), max_token_length=150)
    attach_concepts(model, {"<t>": 3}, {"text_encoder": np.zeros((3, 32), np.float32)})
    encode_ids = model.text_encoders[0].encode_ids
    text = " ".join(["toy"] * 74) + " <t>"

    tokens = encode_ids.in_plain_chunks([text], None)

    assert tokens.ids.shape == (2, 77)
    assert list(tokens.ids[1, 1:4]) == encode_ids.token_ids("<t>") and encode_ids.dropped(text) == ""
    assert encode_ids.dropped(text + " toy" * 72) == "" and encode_ids.dropped(text + " toy" * 73) == "toy"


def learned(**metadata):
    return LearnedEmbedding("<cat-toy>", {"text_encoder": np.zeros((1, 32), np.float32)}, metadata)


def test_prompts_are_read_as_the_embedding_was_learned_unless_the_user_says_how(folders, tmp_path):
    write_safetensors(tmp_path / "a.safetensors", learned(clip_skip="2", max_token_length="150"))
    write_safetensors(tmp_path / "b.safetensors", learned())
    read, usual = (read_concept_files([tmp_path / name]) for name in ("a.safetensors", "b.safetensors"))
    model, asked = (load_base_model(folders("sd1"), clip_skip=skip) for skip in (None, 1))

    for one in (model, asked):
        attach_files(one, read)
    assert (model.clip_skip, model.max_token_length) == (2, 150)
    assert (asked.clip_skip, asked.max_token_length) == (1, 150)
    attach_files(model, usual)
    assert (model.clip_skip, model.max_token_length) == (None, None)
    with pytest.raises(SettingsError, match=r"learned with different --clip_skip; give one for both"):
        attach_files(model, [*read, *read_concept_files([tmp_path / "b.safetensors"], ["<cat-toy>=<other>"])])
