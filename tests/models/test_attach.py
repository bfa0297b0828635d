"""Embedding files attached to a base model: every vector at its token, and files that do not fit it refused."""

import numpy as np
import paddle
import pytest

from helpers.tiny_models import build_model
from textual_inversion.embeddings.files import read_concept_files
from textual_inversion.formats.embedding_file import LearnedEmbedding, write_pdparams
from textual_inversion.models.attach import add_files, attach_files, attached_vectors, detach
from textual_inversion.models.base_model import load_base_model
from textual_inversion.models.precision import lower
from textual_inversion.system.errors import ConceptError, EmbeddingFileError


def learned(token="<cat-toy>", vectors=1, width=32, seed=1):
    values = np.random.default_rng(seed).standard_normal((vectors, width)).astype(np.float32)
    return LearnedEmbedding(token, {"text_encoder": values})


def stored(path, concept):
    write_pdparams(path, [concept])
    return path


def test_the_vectors_of_all_files_reach_the_text_encoder(tmp_path):
    cat, dog = learned("<cat-toy>", 2), learned("<dog-toy>", 3, seed=2)
    files = read_concept_files([stored(tmp_path / "a.pdparams", cat), stored(tmp_path / "b.pdparams", dog)])
    model = load_base_model(build_model(tmp_path / "base"))

    attach_files(model, files)

    encoder = model.text_encoders[0]
    ids = encoder.encode_ids(["<dog-toy> <cat-toy>"])
    embedded = encoder.layer.get_input_embeddings()(paddle.to_tensor(ids)).numpy()[0, 1:6]
    np.testing.assert_array_equal(embedded[:3], dog.vectors["text_encoder"])
    np.testing.assert_array_equal(embedded[3:], cat.vectors["text_encoder"])


def test_other_widths_and_known_tokens_are_refused(tmp_path):
    model = load_base_model(build_model(tmp_path / "base"))
    wide = read_concept_files([stored(tmp_path / "wide.pdparams", learned(width=768))])
    known = read_concept_files([stored(tmp_path / "known.pdparams", learned("cat"))])

    with pytest.raises(EmbeddingFileError, match=r"768 values \(Stable Diffusion 1.x\).*32 values"):
        attach_files(model, wide)
    with pytest.raises(ConceptError, match="placeholder token 'cat' is a token of this base model already"):
        attach_files(model, known)


def embedded(model, prompt, count):
    """The first vectors that a prompt's tokens read."""
    encoder = model.text_encoders[0]
    ids = encoder.encode_ids([prompt])
    return encoder.layer.get_input_embeddings()(paddle.to_tensor(ids)).numpy()[0, 1 : count + 1]


def test_words_come_and_go_one_by_one(tmp_path):
    model = load_base_model(build_model(tmp_path / "base"))
    plain = embedded(model, "a cat", 2)
    cat, dog, other = learned("<cat>", 2), learned("<dog>", 1, seed=2), learned("<cat>", 1, seed=3)
    of = {
        name: read_concept_files([stored(tmp_path / f"{name}.pdparams", concept)])
        for name, concept in {"cat": cat, "dog": dog, "other": other}.items()
    }
    assert attached_vectors(model) == {}

    add_files(model, of["cat"])
    add_files(model, of["dog"])
    rows = [one.vectors["text_encoder"] for one in (cat, dog)]
    np.testing.assert_array_equal(embedded(model, "<dog> <cat>", 3), np.concatenate(rows[::-1]))

    add_files(model, of["other"])  # takes the place of <cat>; <dog> stays
    assert {token: len(own["text_encoder"]) for token, own in attached_vectors(model).items()} == {
        "<cat>": 1,
        "<dog>": 1,
    }
    np.testing.assert_array_equal(
        embedded(model, "<cat> <dog>", 2), np.concatenate([other.vectors["text_encoder"], rows[1]])
    )

    detach(model, ["<cat>"])
    np.testing.assert_array_equal(embedded(model, "<dog>", 1), rows[1])
    assert not model.text_encoders[0].encode_ids.holds_placeholder("<cat>")
    detach(model, ["<dog>"])
    assert attached_vectors(model) == {}
    np.testing.assert_array_equal(embedded(model, "a cat", 2), plain)
    add_files(model, of["dog"])
    np.testing.assert_array_equal(embedded(model, "<dog>", 1), rows[1])


def test_what_cannot_be_added_or_taken_leaves_the_model_as_it_was(tmp_path):
    model = load_base_model(build_model(tmp_path / "base"))
    add_files(model, read_concept_files([stored(tmp_path / "a.pdparams", learned("<a>", 2))]))

    for name, concept, said in (
        ("b", learned("<a>_1", 1), "<a>_1 is a vector of <a> and of <a>_1; give one another name"),
        ("c", learned("toy", 1), "is a token of this base model already"),
        ("d", learned("<d>", 1, width=9), "9 values"),
    ):
        with pytest.raises((ConceptError, EmbeddingFileError), match=said):
            add_files(model, read_concept_files([stored(tmp_path / f"{name}.pdparams", concept)]))
    with pytest.raises(ConceptError, match="<x> is not attached to this model; attached: <a>"):
        detach(model, ["<a>", "<x>"])
    assert list(attached_vectors(model)) == ["<a>"]
    np.testing.assert_array_equal(embedded(model, "<a>", 2), learned("<a>", 2).vectors["text_encoder"])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_words_of_a_lowered_model_come_and_go(tmp_path, precision):
    model = load_base_model(build_model(tmp_path / "base", "sdxl"))
    widths = {one.name: one.embedding_width for one in model.text_encoders}
    two = [
        LearnedEmbedding(token, {name: np.full((1, width), 0.1, np.float32) for name, width in widths.items()})
        for token in ("<a>", "<b>")
    ]
    for concept in two:
        write_pdparams(tmp_path / f"{concept.placeholder_token[1]}.pdparams", [concept])
    add_files(model, read_concept_files([tmp_path / "a.pdparams"]))
    lower(model, precision)
    add_files(model, read_concept_files([tmp_path / "b.pdparams"]))
    detach(model, ["<a>"])
    detach(model, ["<b>"])

    for encoder in model.text_encoders:
        layer = encoder.layer.get_input_embeddings()
        found = layer(paddle.to_tensor(encoder.encode_ids(["a cat"])))
        assert found.dtype == getattr(paddle, {"bf16": "bfloat16", "fp16": "float16"}[precision])
