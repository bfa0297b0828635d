"""What is found when embeddings are held against base models: a test for each finding, and for its absence."""

import numpy as np
import pytest

from helpers.tiny_models import build_model
from textual_inversion.embeddings.files import ConceptFile
from textual_inversion.embeddings.findings import NO, NOTE, WARNING
from textual_inversion.formats.learned_embedding import LearnedEmbedding
from textual_inversion.models.compatibility import load_encoders
from textual_inversion.models.identity import public_name
from textual_inversion.models.vocabulary import row_norms, word_vectors
from textual_inversion.system.errors import ConceptError, EmbeddingFileError


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {family: load_encoders(str(build_model(root / family, family))) for family in ("sd1", "sdxl")}


@pytest.fixture(scope="module")
def sd1(models):
    return models["sd1"]


def word(vectors, token="<x>", **metadata):
    return LearnedEmbedding(token, vectors, metadata)


def found(model, concept, tmp_path, **run):
    file = ConceptFile(tmp_path / "x.safetensors", (concept,), {"placeholder_token": concept.placeholder_token, **run})
    return [(one.level, one.about, one.text) for one in model.findings(file)]


def cat(model):
    return word_vectors("cat", model.encoders)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_word_like_those_of_the_model_is_in_order(models, tmp_path, family):
    model = models[family]
    assert found(model, word(cat(model)), tmp_path) == []
    assert found(model, word(cat(model), base_model=model.name), tmp_path) == []


def test_one_of_two_text_encoders_is_missing(models, tmp_path):
    xl = models["sdxl"]
    both = cat(xl)
    assert both["text_encoder"].shape[1] != both["text_encoder_2"].shape[1]

    for name, there, missing in (("text_encoder", "first", "second"), ("text_encoder_2", "second", "first")):
        ((level, about, text),) = found(xl, word({"text_encoder": both[name]}), tmp_path)
        assert (level, about) == (NO, "encoder")
        assert (
            f"for the {there} text encoder alone" in text and f"those for the {missing} are missing; put their" in text
        )


def test_two_text_encoders_for_a_model_with_one_and_other_widths(models, sd1, tmp_path):
    ((level, about, text),) = found(sd1, word(cat(models["sdxl"])), tmp_path)
    assert (level, about) == (NO, "encoder") and "vectors for two text encoders" in text and "has one; choose" in text

    ((level, about, text),) = found(sd1, word({"text_encoder": np.ones((1, 1024), np.float32)}), tmp_path)
    assert (level, about) == (NO, "width")
    assert (
        text.startswith("<x> holds vectors of 1024 values (Stable Diffusion 2.x)") and "; choose the base model" in text
    )


def test_norms_out_of_scale_are_held_against_the_percentiles_of_the_table(sd1, tmp_path):
    row = cat(sd1)["text_encoder"]
    row = row / np.linalg.norm(row)
    low, _, high = np.percentile(row_norms(sd1.encoders[0]), (1, 50, 99))
    for norm, said in (
        (2.9 * high, None),
        (3.1 * high, "may overrule the rest of a prompt; rescale it with --norm table"),
        (low / 2.9, None),
        (low / 3.1, "may do nothing; rescale it with --norm table"),
    ):
        vectors = np.concatenate([row, norm * row / row.max() * row.max()]).astype(np.float32)
        vectors[0] *= (low + high) / 2
        items = found(sd1, word({"text_encoder": vectors}), tmp_path)
        if said is None:
            assert items == []
        else:
            ((level, about, text),) = items
            assert (level, about) == (WARNING, "norm") and said in text and text.startswith("the norm of vector 2 (")


def test_names_that_are_taken_and_too_many_vectors(sd1, tmp_path):
    row = cat(sd1)["text_encoder"]
    ((level, about, text),) = found(sd1, word({"text_encoder": row}, "toy"), tmp_path)
    assert (level, about) == (NO, "name") and "is a token of this base model already; choose another" in text

    for count, wanted in ((76, NO), (70, WARNING), (67, None)):
        items = found(sd1, word({"text_encoder": np.repeat(row, count, 0)}), tmp_path)
        assert [(level, about) for level, about, _ in items] == ([] if wanted is None else [(wanted, "room")])


def test_another_base_model_of_the_same_width(sd1, tmp_path):
    for recorded in ("someone/model", "local:" + "0" * 64):
        ((level, about, text),) = found(sd1, word(cat(sd1), base_model=recorded), tmp_path)
        assert (level, about) == (WARNING, "base_model") and f"learned on {recorded}, which has the width of" in text
    assert found(sd1, word(cat(sd1)), tmp_path, base_model="someone/model")[0][1] == "base_model"
    ((level, _, text),) = found(sd1, word(cat(sd1), learned_on="anything v3"), tmp_path)
    assert level == NOTE and "says that it was learned on anything v3" in text


def test_a_base_model_is_known_by_its_path_its_hash_and_as_a_copy(sd1, tmp_path):
    copy = build_model(tmp_path / "copy", "sd1")
    own = public_name(sd1.name, sd1.folder)
    assert own.startswith("local:") and all(sd1.is_called(name) for name in (sd1.name, f"{sd1.name}/", own, str(copy)))
    assert not sd1.is_called(str(tmp_path)) and not sd1.is_called("local:demo")


def test_a_mix_must_suit_the_base_model(sd1):
    with pytest.raises(EmbeddingFileError, match="needs 32 values|needs"):
        sd1.notes_on_mix(word({"text_encoder": np.ones((1, 7), np.float32)}), [])
    with pytest.raises(ConceptError, match="'toy' is a token of this base model already"):
        sd1.notes_on_mix(word(cat(sd1), "toy"), [])
    assert sd1.notes_on_mix(word(cat(sd1)), [sd1.name]) == []
    assert "learned on a/b, which is not" in sd1.notes_on_mix(word(cat(sd1)), [sd1.name, "a/b"])[0]
    assert set(sd1.mean_norms()) == {"text_encoder"}
