"""What new vectors start from, and what is refused before anything is attached."""

from types import SimpleNamespace

import numpy as np
import pytest

from helpers.tiny_models import build_model
from textual_inversion.formats.embedding_file import LearnedEmbedding
from textual_inversion.models import concept_embedding
from textual_inversion.models.base_model import load_base_model
from textual_inversion.models.concept_embedding import table_of
from textual_inversion.models.export import save_pipeline
from textual_inversion.models.prompt_encoder import PromptEncoder
from textual_inversion.settings.concept import Concept
from textual_inversion.system.errors import ConceptError, EmbeddingFileError
from textual_inversion.training.initialization import EmbeddingTable, describe, initial_vectors, settle, vectors_of

PHRASE = "brain logo, sharp lines, connected circles, concept art"


@pytest.fixture
def tokenizer(model):
    return model.text_encoders[0].tokenizer


@pytest.fixture
def table():
    return np.random.default_rng(0).standard_normal((2000, 8)).astype("float32") * 0.3 + 0.1


def generator():
    return np.random.default_rng(0)


def test_a_phrase_is_averaged_into_each_vector_and_vectors_start_apart(tokenizer, table):
    ids = PromptEncoder(tokenizer).token_ids("toy cat")

    found = vectors_of(Concept("<t>", 3, "toy cat"), tokenizer, EmbeddingTable(table), generator())

    np.testing.assert_allclose(found[0], table[ids].mean(0), atol=1e-6)
    assert np.abs(found[0] - found[1]).max() > 1e-3 and np.abs(found[1] - found[2]).max() > 1e-3
    assert np.abs(found - found[0]).std() < 0.2 * table.std()


def test_auto_gives_each_token_of_the_phrase_a_vector(model, tokenizer, table):
    ids = PromptEncoder(tokenizer).token_ids(PHRASE)

    (concept,) = settle([Concept("<t>", None, PHRASE)], model)
    found = vectors_of(concept, tokenizer, EmbeddingTable(table), generator())

    assert concept.num_vectors == len(ids) > 4
    first = [ids.index(i) for i in ids]  # a comma stands there three times
    fresh = [i for i, position in enumerate(first) if i == position]
    np.testing.assert_array_equal(found[fresh], table[ids][fresh])
    assert len(np.unique(found, axis=0)) == len(found)


def test_without_an_initializer_vectors_are_drawn_like_the_tables(tokenizer, table):
    found = vectors_of(Concept("<t>", 4000, None), tokenizer, EmbeddingTable(table), generator())

    np.testing.assert_allclose(found.mean(0), table.mean(0), atol=0.03)
    np.testing.assert_allclose(found.std(0), table.std(0), rtol=0.06)


def test_vectors_can_start_from_a_learned_embedding(model):
    width = model.embedding_width
    vectors = {"text_encoder": generator().standard_normal((2, width)).astype("float32")}
    learned = [LearnedEmbedding("<old>", vectors, {}, source="old.pdparams")]

    concepts = settle([Concept("<new>", 1, "toy")], model, learned)
    found = initial_vectors(model.text_encoders, concepts, generator(), learned)

    assert concepts[0].num_vectors == 2
    np.testing.assert_array_equal(found["text_encoder"], vectors["text_encoder"])
    assert "old.pdparams" in describe(concepts[0], learned[0])


def test_each_of_several_concepts_starts_from_the_one_of_its_name(model):
    width = model.embedding_width
    vectors = {"text_encoder": generator().standard_normal((1, width)).astype("float32")}
    learned = [LearnedEmbedding("<b>", vectors, {})]

    concepts = settle([Concept("<a>", 1, "toy"), Concept("<b>", 1, "toy")], model, learned)
    found = initial_vectors(model.text_encoders, concepts, generator(), learned)["text_encoder"]

    toy = PromptEncoder(model.text_encoders[0].tokenizer).token_ids("toy")
    np.testing.assert_allclose(found[0], table_of(model.text_encoders[0].layer).numpy()[toy].mean(0), atol=1e-6)
    np.testing.assert_array_equal(found[1:], vectors["text_encoder"])


@pytest.mark.parametrize(
    ("concept", "message"),
    [
        (Concept("<t>", None, None), "auto"),
        (Concept("<t>", None, " "), "initializer"),
        (
            Concept("<t>", 64, "toy"),
            "a word of 64 vectors cannot fit in a prompt: <t> .*--num_vectors can be at most 63",
        ),
        (
            Concept("<t>", None, "toy " * 80),
            "a word of 80 vectors cannot fit in a prompt: <t> .*auto takes a vector for",
        ),
        (Concept("toy", 1, "toy"), "token of this base model already"),
        (Concept("two words", 1, "toy"), "blanks"),
    ],
)
def test_concepts_that_cannot_be_are_refused(model, concept, message):
    with pytest.raises(ConceptError, match=message):
        settle([concept], model)


@pytest.mark.parametrize("initializer", ["", "   "])
def test_an_empty_initializer_is_refused(model, initializer):
    with pytest.raises(ConceptError, match="initializer"):
        initial_vectors(model.text_encoders, [Concept("<t>", 1, initializer)], generator())


def test_two_concepts_cannot_want_one_token(model):
    with pytest.raises(ConceptError, match="both want the token <a>_1"):
        settle([Concept("<a>", 2, "toy"), Concept("<a>_1", 1, "toy")], model)


def test_two_concepts_cannot_become_one_word(model):
    for words in (("<a>", "<a>_1"), ("<a>_1", "<a>")):
        with pytest.raises(ConceptError, match="<a>_1 would be read as one more vector of <a>"):
            settle([Concept(word, 1, "toy") for word in words], model)
    settle([Concept("<a>", 1, "toy"), Concept("<a>_2", 1, "toy")], model)


def test_a_learned_embedding_of_too_many_vectors_is_refused_in_plain_words(model):
    large = LearnedEmbedding(
        "<t>", {"text_encoder": np.ones((80, model.embedding_width), "float32")}, {}, source="x.pt"
    )

    with pytest.raises(ConceptError, match="a word of 80 vectors cannot fit in a prompt: .*an embedding of at most 63"):
        settle([Concept("<t>", 1, "toy")], model, [large])


def test_an_initializer_may_be_a_word_that_the_base_model_has_learned(tmp_path):
    """All vectors of the word, whether each starts one new vector or all of them one."""
    first = load_base_model(build_model(tmp_path / "base"))
    vectors = generator().standard_normal((3, first.embedding_width)).astype("float32")
    save_pipeline(first, [LearnedEmbedding("<w>", {"text_encoder": vectors})], tmp_path / "saved")
    model = load_base_model(tmp_path / "saved")

    each, mean = settle([Concept("<each>", None, "<w>"), Concept("<mean>", 1, "<w>")], model)
    found = initial_vectors(model.text_encoders, [each, mean], generator())["text_encoder"]

    assert each.num_vectors == 3
    np.testing.assert_array_equal(found[:3], vectors)
    np.testing.assert_allclose(found[3], vectors.mean(axis=0), atol=1e-6)


def test_a_name_that_the_base_model_continues_is_refused_before_anything_is_trained(tmp_path):
    first = load_base_model(build_model(tmp_path / "base"))
    vectors = np.ones((2, first.embedding_width), "float32")
    save_pipeline(first, [LearnedEmbedding("<w>", {"text_encoder": vectors})], tmp_path / "saved")
    model = load_base_model(tmp_path / "saved")

    with pytest.raises(ConceptError, match="'<w>_2' would be read as one more vector of <w>"):
        settle([Concept("<w>_2", 1, "toy")], model)


def test_learned_vectors_from_which_no_concept_starts_are_refused(model):
    vectors = {"text_encoder": np.zeros((1, model.embedding_width), "float32")}
    learned = [LearnedEmbedding(token, vectors, {}) for token in ("<x>", "<y>")]

    with pytest.raises(ConceptError, match="--initializer_embeds holds <x>, <y>, and none of them is for <t>;"):
        settle([Concept("<t>", 1, "toy")], model, learned)
    with pytest.raises(ConceptError, match="and none of them is for <t>, <u>;"):
        settle([Concept("<t>", 1, "toy"), Concept("<u>", 1, "toy")], model, learned[:1])


def test_learned_vectors_must_fit(model):
    narrow = LearnedEmbedding("<t>", {"text_encoder": np.zeros((1, 3), "float32")}, {}, source="x.pt")
    with pytest.raises(EmbeddingFileError, match="3 values"):
        settle([Concept("<t>", 1, "toy")], model, [narrow])
    two = LearnedEmbedding("<t>", {"text_encoder": np.zeros((2, model.embedding_width), "float32")}, {}, source="x.pt")
    with pytest.raises(ConceptError, match="leave --num_vectors out"):
        settle([Concept("<t>", 3, "toy")], model, [two])


def test_the_table_is_gone_through_once_whatever_the_number_of_concepts(model, monkeypatch):
    looked = []

    class Watched(np.ndarray):
        def mean(self, *args, **options):
            if self.shape[0] > 100:
                looked.append("mean")
            return np.asarray(self).mean(*args, **options)

        def std(self, *args, **options):
            looked.append("std")
            return np.asarray(self).std(*args, **options)

    values = table_of(model.text_encoders[0].layer).numpy().view(Watched)
    monkeypatch.setattr(concept_embedding, "table_of", lambda layer: SimpleNamespace(numpy=lambda: values))
    concepts = [Concept(f"<{n}>", 2, "toy" if n % 2 else None) for n in range(50)]

    found = initial_vectors(model.text_encoders, concepts, generator())["text_encoder"]

    assert found.shape[0] == 100 and sorted(looked) == ["mean", "std", "std"]
