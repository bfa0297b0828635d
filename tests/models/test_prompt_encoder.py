"""Placeholders: whole words, many vectors, one expansion."""

import json

import numpy as np
import paddle
import pytest

from helpers.tiny_models import FAMILIES, build_model, write_tokenizer
from textual_inversion.formats.learned_embedding import LearnedEmbedding
from textual_inversion.models.attach import attach_concepts
from textual_inversion.models.base_model import load_base_model
from textual_inversion.models.export import save_pipeline
from textual_inversion.models.prompt_encoder import (
    LONGEST_TEXT,
    PromptEncoder,
    Reading,
)
from textual_inversion.models.prompt_notes import check_prompts
from textual_inversion.models.tokenizers import load_clip_tokenizer
from textual_inversion.settings.concept import Concept
from textual_inversion.system.errors import ConceptError, SettingsError


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_base_model(build_model(tmp_path_factory.mktemp("base"), "sd1", "ppdiffusers"))


@pytest.fixture
def tokenizer(model):
    return model.text_encoders[0].tokenizer


def test_without_placeholders_ids_are_the_tokenizers_own(tokenizer):
    prompts = ["a photo of a toy", "", "a cat, on the beach!"]

    ids = PromptEncoder(tokenizer)(prompts)

    expected = tokenizer(prompts, padding="max_length", truncation=True, max_length=77)["input_ids"]
    np.testing.assert_array_equal(ids, expected)


def test_a_placeholder_becomes_all_its_ids(tokenizer):
    encoder = PromptEncoder(tokenizer, {"<cat-toy>": 3, "<other>": 1}, first_id=900)

    ids = encoder.token_ids("a <cat-toy> and <other>")

    a, and_ = encoder.token_ids("a"), encoder.token_ids("and")
    assert ids == [*a, 900, 901, 902, *and_, 903]


def test_ids_equal_those_of_a_tokenizer_that_has_the_words_added(model, tokenizer):
    added = load_clip_tokenizer(model.folder / "tokenizer", longest=77)
    added.add_tokens(["<cat-toy>", "<cat-toy>_1"])
    encoder = PromptEncoder(tokenizer, {"<cat-toy>": 2}, first_id=len(tokenizer))
    sentences = ["a photo of a {}", "a {} on the beach", "{}", "the {}, a toy", "a picture in the style of {}"]

    ours = encoder([s.replace("{}", "<cat-toy>") for s in sentences])

    expanded = [s.replace("{}", "<cat-toy> <cat-toy>_1") for s in sentences]
    theirs = added(expanded, padding="max_length", truncation=True, max_length=77)["input_ids"]
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("prompt", "holds"),
    [
        ("a det-logo", True),
        ("det-logo, art", True),
        ("(det-logo)", True),
        ("a det-logos", False),
        ("an undet-logo", False),
        ("a det-logo-like thing", False),
        ("a det logo", False),
    ],
)
def test_a_bare_word_fires_as_a_whole_word_only(tokenizer, prompt, holds):
    encoder = PromptEncoder(tokenizer, {"det-logo": 1}, first_id=900)

    assert encoder.holds_placeholder(prompt) is holds
    assert (900 in encoder.token_ids(prompt)) is holds


@pytest.mark.parametrize(
    ("word", "prompt", "holds"),
    [
        ("det-logo", "一张det-logo的照片", True),
        ("det-logo", "det-logoの写真", True),
        ("det-logo", "一张det-logos的照片", False),
        ("猫玩具", "一张猫玩具的照片", True),
        ("größer", "ein größerer", False),
        ("größer", "viel größer.", True),
    ],
)
def test_scripts_without_blanks_hold_a_word_as_it_stands(tokenizer, word, prompt, holds):
    assert PromptEncoder(tokenizer, {word: 1}, first_id=900).holds_placeholder(prompt) is holds


def test_all_but_the_trained_placeholder_can_be_detached(tokenizer):
    encoder = PromptEncoder(tokenizer, {"<a>": 2, "<b>": 2, "det-logo": 1}, first_id=900)
    prompt, trained = "<a> and <b> and <b>_1 on det-logo, <a>_1, det-logos", Reading(trained="<a>")

    plain = encoder.token_ids(prompt)

    detached = {902: 907, 903: 908, 904: 909}
    assert encoder.token_ids(prompt, trained) == [detached.get(i, i) for i in plain]
    chosen = encoder.token_ids(prompt, Reading({"<b>": (1,)}, trained="<a>"))
    assert chosen.count(908) == 2 and 907 not in chosen  # in place of both vectors, and by its own name
    assert encoder([prompt], [trained])[0, 1 : 1 + len(plain)].tolist() == encoder.token_ids(prompt, trained)
    assert encoder.ends([prompt], [trained]) == encoder.ends([prompt])


def test_the_initial_vectors_can_be_read(tokenizer):
    encoder = PromptEncoder(tokenizer, {"<a>": 2, "det-logo": 1}, first_id=900)
    prompt, initial = "<a>, <a>_1 on a det-logo, not det-logos", Reading(initial=True)

    started = encoder.token_ids(prompt, initial)

    later = {900: 906, 901: 907, 902: 908}
    assert started == [later.get(i, i) for i in encoder.token_ids(prompt)]
    assert encoder.token_ids(prompt, Reading(trained="<a>", initial=True)) == started
    assert encoder.token_ids("a toy", initial) == encoder.token_ids("a toy")


def test_prompts_are_plain_text_whatever_their_characters(tokenizer):
    encoder = PromptEncoder(tokenizer, {"<a>": 2}, first_id=900)

    for character in ("\ue000", "\ue001"):
        ids = encoder.token_ids(f"a {character}<a>")
        assert ids[-2:] == [900, 901] and ids[:-2] == encoder.token_ids(f"a {character}")


def test_detached_vectors_read_the_same_and_get_no_gradient(model):
    rows = {"text_encoder": np.random.default_rng(0).standard_normal((3, model.embedding_width)).astype("float32")}
    embedding = attach_concepts(model, {"<a>": 2, "<b>": 1}, rows)["text_encoder"]
    prompt = "a <a> beside a <b>"

    free = model.encode_prompts([prompt]).hidden_states
    detached = model.encode_prompts([prompt], [Reading(trained="<a>")]).hidden_states
    (detached * paddle.arange(detached.shape[-1], dtype="float32")).sum().backward()

    np.testing.assert_array_equal(free.numpy(), detached.numpy())
    assert (np.abs(embedding.parts[0].grad.numpy()).max(axis=1) > 0).all()
    assert not embedding.parts[1].grad.numpy().any()


@pytest.mark.parametrize("sentence", ["my_det-logo_picture", "a det-logo-like thing", "a <other>"])
def test_a_sentence_from_which_nothing_is_learned_is_refused(tokenizer, sentence):
    encoder = PromptEncoder(tokenizer, {"det-logo": 1, "<other>": 1}, first_id=900)
    with pytest.raises(ConceptError, match="does not hold det-logo as a word of its own"):
        check_prompts(
            encoder, [Concept("det-logo"), Concept("<other>")], [(0, "a det-logo"), (0, sentence)], note=print
        )


def test_one_vector_can_be_named_alone(tokenizer):
    encoder = PromptEncoder(tokenizer, {"<t>": 12}, first_id=900)

    assert encoder.token_ids("<t>_1") == [901]
    assert encoder.token_ids("<t>_11") == [911]
    assert encoder.token_ids("<t>")[:2] == [900, 901]


def test_what_is_past_the_models_length_is_told(tokenizer):
    encoder = PromptEncoder(tokenizer, {"<t>": 2}, first_id=900)
    fits = " ".join(["toy"] * 75)

    assert encoder.dropped(fits) == ""
    assert encoder.dropped(fits + " cat <t>") == "cat <t>"
    assert encoder.dropped(fits.removesuffix(" toy") + " <t>, dog") == "the last 1 of the 2 vectors of <t> , dog"
    assert encoder([fits + " cat"]).shape == (1, 77)
    assert encoder([fits + " cat"])[0, -1] == tokenizer.eos_token_id


def test_only_the_chosen_vectors_stand_in_a_prompt_in_their_order(tokenizer):
    encoder = PromptEncoder(tokenizer, {"<t>": 3, "<other>": 2}, first_id=900)

    ids = encoder(["a <t> and <other>", "a <t>"], [Reading({"<t>": (2, 0)}), Reading({"<t>": (1,)})])

    a, and_ = encoder.token_ids("a"), encoder.token_ids("and")
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    assert ids[0][:8].tolist() == [start, *a, 902, 900, *and_, 903, 904, end]
    assert ids[1][:4].tolist() == [start, *a, 901, end]


def test_the_end_token_is_found_also_behind_a_cut_prompt(tokenizer):
    encoder = PromptEncoder(tokenizer, {"<t>": 2}, first_id=900)
    prompts = ["a <t>", "", " ".join(["toy"] * 200)]

    ends = encoder.ends(prompts)

    assert ends.tolist() == [4, 1, 76]
    assert all(row[end] == tokenizer.eos_token_id for row, end in zip(encoder(prompts), ends, strict=True))
    assert encoder.ends(prompts[:1], [Reading({"<t>": (0,)})]).tolist() == [3]


def test_placeholders_give_way_to_other_words_as_whole_words(tokenizer):
    encoder = PromptEncoder(tokenizer, {"<t>": 2, "det-logo": 1}, first_id=900)

    assert encoder.replaced("a <t> on a det-logo, det-logos", {"<t>": "grey cat", "det-logo": "sign"}) == (
        "a grey cat on a sign, det-logos"
    )
    assert encoder.replaced("a <t>", {}) == "a <t>"


def test_attached_words_change_only_prompts_that_hold_them(model):
    before = model.encode_prompts(["a photo of a toy"]).hidden_states.numpy()
    rows = {"text_encoder": np.random.default_rng(0).standard_normal((2, model.embedding_width))}

    embeddings = attach_concepts(model, {"<t>": 2}, rows)

    np.testing.assert_array_equal(model.encode_prompts(["a photo of a toy"]).hidden_states.numpy(), before)
    hidden = model.encode_prompts(["a photo of a <t>"]).hidden_states
    hidden.sum().backward()
    gradient = embeddings["text_encoder"].vectors.grad.numpy()
    assert (np.abs(gradient).max(axis=1) > 0).all()


def test_a_prompt_moves_the_part_of_its_own_concept_only(model):
    rows = {"text_encoder": np.random.default_rng(0).standard_normal((3, model.embedding_width)).astype("float32")}
    embedding = attach_concepts(model, {"<one>": 2, "<two>": 1}, rows)["text_encoder"]

    model.encode_prompts(["a photo of a <one>"]).hidden_states.sum().backward()

    one, two = embedding.parts
    assert one.shape == [2, model.embedding_width] and two.shape == [1, model.embedding_width]
    assert (np.abs(one.grad.numpy()).max(axis=1) > 0).all()
    assert not two.grad.numpy().any()
    np.testing.assert_array_equal(embedding.vectors.numpy(), rows["text_encoder"])


def test_a_concepts_own_name_comes_before_a_vector_of_another(tokenizer):
    for order in (("<a>", "<a>_1"), ("<a>_1", "<a>")):
        encoder = PromptEncoder(tokenizer, {name: {"<a>": 2, "<a>_1": 3}[name] for name in order}, first_id=900)
        assert len(encoder.token_ids("<a>")) == 2 and len(encoder.token_ids("<a>_1")) == 3


# ---------------------------------------------------------------------------- words that a base model holds already


PROMPTS = ["a photo of <Cat-Toy> on the beach", "det-logo, det-logos", "<Cat-Toy>_1", "<café>", "a <one> and <Cat-Toy>"]
HELD = {"<Cat-Toy>": 3, "det-logo": 2, "<one>": 1, "<café>": 2}


def embedding(model, word, count, seed):
    rows = np.random.default_rng(seed)
    widths = {encoder.name: encoder.embedding_width for encoder in model.text_encoders}
    vectors = {name: rows.standard_normal((count, width)).astype(np.float32) for name, width in widths.items()}
    return LearnedEmbedding(word, vectors)


def saved(folder, family):
    """A saved pipeline of a family that holds `HELD`."""
    model = load_base_model(build_model(folder / "base", family))
    save_pipeline(model, [embedding(model, *item, seed) for seed, item in enumerate(HELD.items())], folder / "saved")
    return folder / "saved"


@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES if name != "sd1"] + ["sd1"]
)
def test_a_base_models_own_words_stand_for_all_their_vectors(tmp_path, family):
    """The ids are compared with what ppdiffusers' pipeline makes of the same prompts, if its family does that."""
    from ppdiffusers.loaders import TextualInversionLoaderMixin

    model = load_base_model(saved(tmp_path, family))

    for encoder in model.text_encoders:
        tokenizer, encode_ids = encoder.tokenizer, encoder.encode_ids
        for prompt in PROMPTS:
            # Where a tokenizer reads capitals as small letters, ppdiffusers finds words in small letters only.
            text = prompt.lower() if getattr(tokenizer, "do_lower_case", False) else prompt
            expanded = TextualInversionLoaderMixin().maybe_convert_prompt(text, tokenizer)
            assert encode_ids.token_ids(prompt) == tokenizer.convert_tokens_to_ids(tokenizer.tokenize(expanded))
            assert not encode_ids.unknown_placeholders(prompt) and encode_ids.holds_learned_word(prompt)
        assert len(encode_ids.token_ids("<Cat-Toy>")) == 3 and len(set(encode_ids.token_ids("<Cat-Toy>"))) == 3
        assert encode_ids.unknown_placeholders("a <cot-toy>") == ["<cot-toy>"]
        assert not encode_ids.holds_learned_word("a <cot-toy>") and not encode_ids.holds_placeholder("<Cat-Toy>")


@pytest.mark.slow
@pytest.mark.parametrize("maker", ["ours", "json_only"])
def test_states_of_a_base_models_own_words_are_those_of_the_saved_pipeline(tmp_path, maker):
    """json_only: as diffusers with transformers 5 stores the tokenizer."""
    from ppdiffusers import StableDiffusionPipeline

    folder = saved(tmp_path, "sd1")
    pipe = StableDiffusionPipeline.from_pretrained(str(folder))
    if maker == "json_only":
        store_as_one_file(folder / "tokenizer")

    model = load_base_model(folder)

    for prompt in PROMPTS:
        expected = pipe.encode_prompt(prompt, 1, False)[0].numpy()
        states = model.encode_prompts([prompt]).hidden_states.numpy()
        np.testing.assert_allclose(states, expected, atol=1e-5)


def store_as_one_file(folder):
    """Rewrite a CLIP tokenizer as a tokenizer.json alone."""
    vocabulary = json.loads((folder / "vocab.json").read_text("utf-8"))
    merges = (folder / "merges.txt").read_text("utf-8").splitlines()[1:]
    added = json.loads((folder / "added_tokens.json").read_text("utf-8"))
    listed = [{"content": token, "id": number, "special": False} for token, number in added.items()]
    whole = {
        "added_tokens": listed,
        "model": {"type": "BPE", "end_of_word_suffix": "</w>", "vocab": vocabulary, "merges": merges},
    }
    (folder / "tokenizer.json").write_text(json.dumps(whole), "utf-8")
    for name in ("vocab.json", "merges.txt", "added_tokens.json"):
        (folder / name).unlink()


@pytest.mark.parametrize("where", ["added_tokens.json", "vocab.json"])
def test_a_word_in_another_form_of_unicode_or_in_the_vocabulary_itself_is_found(tmp_path, where):
    size = len(write_tokenizer(tmp_path))
    words = {"<cafe\u0301>": size, "<cafe\u0301>_1": size + 1}
    (tmp_path / "added_tokens.json").write_text(json.dumps(words))
    if where == "vocab.json":
        vocabulary = json.loads((tmp_path / "vocab.json").read_text()) | words
        (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))

    encoder = PromptEncoder(load_clip_tokenizer(tmp_path, longest=77))

    for text in ("<caf\u00e9>", "<cafe\u0301>"):
        assert encoder.token_ids(text) == [size, size + 1]
        assert encoder.unknown_placeholders(text) == []


def test_hundreds_of_concepts_share_the_text_around_their_placeholders(tokenizer, monkeypatch):
    templates = ["a photo of a {}", "a {} on the beach", "the {}, a toy"]
    counts = {f"<c{number}>": 2 for number in range(300)}
    encoder = PromptEncoder(tokenizer, counts, first_id=900)
    texts, tokenize = [], tokenizer.tokenize
    monkeypatch.setattr(tokenizer, "tokenize", lambda text: texts.append(text) or tokenize(text))

    ids = {token: [encoder.token_ids(one.replace("{}", token)) for one in templates] for token in counts}

    assert sorted(texts) == [" on the beach", ", a toy", "a ", "a photo of a ", "the "]
    fresh = PromptEncoder(tokenizer, {"<c7>": 2}, first_id=914)
    assert ids["<c7>"] == [fresh.token_ids(one.replace("{}", "<c7>")) for one in templates]


def test_a_text_without_end_is_refused_before_it_is_split(tokenizer):
    encoder = PromptEncoder(tokenizer, {"<cat-toy>": 1}, first_id=900)
    encoder(["<cat-toy> " + "x" * (LONGEST_TEXT - 10)])

    with pytest.raises(SettingsError, match=f"a text of {LONGEST_TEXT + 1} letters, '<cat-toy> x.*…', is more than"):
        encoder(["<cat-toy> " + "x" * (LONGEST_TEXT - 9)])
