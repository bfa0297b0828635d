"""Embedding files attached to a base model: every vector at its token, and files that do not fit it refused."""

import numpy as np
import paddle
import pytest

from helpers.tiny_models import build_model
from textual_inversion.embeddings.files import read_concept_files
from textual_inversion.formats.embedding_file import LearnedEmbedding, write_pdparams
from textual_inversion.models.attach import attach_files
from textual_inversion.models.base_model import load_base_model
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
