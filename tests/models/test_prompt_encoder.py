"""Placeholders: whole words, many vectors, one expansion."""

import numpy as np
import paddle
import pytest

from helpers.tiny_models import build_model
from textual_inversion.data.sampler import TrainingImage
from textual_inversion.models.attach import attach_concepts
from textual_inversion.models.base_model import load_base_model
from textual_inversion.models.prompt_encoder import (
    PromptEncoder,
    Reading,
    check_placeholder,
    check_prompts,
)
from textual_inversion.models.tokenizers import load_clip_tokenizer
from textual_inversion.settings.concept import Concept
from textual_inversion.system.errors import ConceptError


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
    images = [TrainingImage(0, ("a det-logo", sentence))]

    with pytest.raises(ConceptError, match="does not hold det-logo as a word of its own"):
        check_prompts(encoder, [Concept("det-logo"), Concept("<other>")], images, note=print)


def test_one_vector_can_be_named_alone(tokenizer):
    encoder = PromptEncoder(tokenizer, {"<t>": 12}, first_id=900)

    assert encoder.token_ids("<t>_1") == [901]
    assert encoder.token_ids("<t>_11") == [911]
    assert encoder.token_ids("<t>")[:2] == [900, 901]


def test_what_is_past_the_models_length_is_told(tokenizer):
    encoder = PromptEncoder(tokenizer, {"<t>": 2}, first_id=900)
    fits = " ".join(["toy"] * 75)

    assert encoder.dropped(fits) == ""
    assert encoder.dropped(fits + " cat <t>") == "cat <t><t>_1"
    assert encoder([fits + " cat"]).shape == (1, 77)
    assert encoder([fits + " cat"])[0, -1] == tokenizer.eos_token_id


@pytest.mark.parametrize("bad", ["", "two words", "tab\tbed", "<a\u200b>", "toy", "<|endoftext|>"])
def test_unusable_placeholders_are_refused(tokenizer, bad):
    with pytest.raises(ConceptError):
        check_placeholder(bad, tokenizer)


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
