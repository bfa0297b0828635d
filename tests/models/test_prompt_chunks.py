"""Weights and chunks: the formula written out, prompts of any length, words of several vectors at a chunk's end."""

from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from helpers.tiny_models import FAMILIES, build_model
from textual_inversion.models.attach import attach_concepts
from textual_inversion.models.base_model import load_base_model
from textual_inversion.models.prompt_chunks import weighted
from textual_inversion.models.prompt_encoder import Reading
from textual_inversion.system.errors import SettingsError

WORD = "<cat-toy>"
PROMPTS = ["a photo of a <cat-toy> on the beach", "", "<cat-toy>", "一张<cat-toy>的照片, a toy"]


@pytest.fixture(scope="module")
def model_of(tmp_path_factory):
    """Family -> its tiny model with a word of three vectors; each is made once."""
    models = {}

    def get(family):
        if family not in models:
            models[family] = model = load_base_model(build_model(tmp_path_factory.mktemp(family) / "base", family))
            draw = np.random.default_rng(1)
            rows = {e.name: draw.normal(size=(3, e.embedding_width)).astype(np.float32) for e in model.text_encoders}
            attach_concepts(model, {WORD: 3}, rows)
        return models[family]

    return get


@pytest.fixture
def model(model_of):
    return model_of("sd1")


def arrays(embedding):
    """Hidden states, and where there are any the pooled ones."""
    return [embedding.hidden_states.numpy(), *(v["text_embeds"].numpy() for v in embedding.added.values())]


def toys(count):
    """A prompt of `count` tokens in every family."""
    return " ".join(["toy"] * count)


def filler(model, count):
    """A text of exactly `count` tokens in the model's first text encoder, whatever its tokenizer is."""
    text = toys(count)
    assert len(model.text_encoders[0].encode_ids.token_ids(text)) == count
    return text


# --------------------------------------------------------------------------------------------------------- the formula


def test_weights_multiply_the_hidden_states_and_the_mean_is_restored(model):
    ids = model.text_encoders[0].encode_ids(["a cat toy"])
    states = model.text_encoders[0](ids)[0].numpy()  # start, a, cat, toy, end, padding
    expected = states.copy()
    expected[0, 2] *= 1.5
    expected[0, 3] /= 1.1
    expected *= states.mean() / expected.mean()

    (found,) = arrays(model.encode_prompts(["a (cat:1.5) [toy]"], chunks=1))

    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(found - states).max() > 0.01


def test_a_weight_on_a_word_is_that_of_all_its_vectors(model):
    states = model.encode_prompts(["a <cat-toy> dog"]).hidden_states.numpy()
    expected = states.copy()
    expected[0, 2:5] *= 0.5
    expected *= states.mean() / expected.mean()

    (found,) = arrays(model.encode_prompts(["a (<cat-toy>:0.5) dog"], chunks=1))

    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_both_encoders_of_sdxl_are_weighted_and_restored_each_by_itself_and_pooled_states_are_not(model_of):
    model = model_of("sdxl")
    plain, pooled = arrays(model.encode_prompts(["a cat toy"]))
    expected = plain.copy()
    for part in (slice(0, 32), slice(32, None)):  # widths of the two
        expected[0, 2, part] *= 3
        expected[..., part] *= plain[..., part].mean() / expected[..., part].mean()

    found, found_pooled = arrays(model.encode_prompts(["a (cat:3) toy"], chunks=1))

    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found_pooled, pooled)


@pytest.mark.parametrize("prompt", ["a (cat:1.3) on [the] beach", "((a)) " + toys(80) + " (cat:0.4) (dog", toys(150)])
def test_embeddings_are_those_of_ppdiffusers(model, prompt):
    """Its functions for weighted prompts are those of the `lpw` pipelines; the negative prompt has one chunk."""
    from ppdiffusers.pipelines.paddleinfer_utils import get_weighted_text_embeddings

    encoder = model.text_encoders[0]
    parts = SimpleNamespace(tokenizer=encoder.tokenizer, text_encoder=lambda input_ids: encoder(input_ids.numpy()))
    with paddle.no_grad():
        theirs = get_weighted_text_embeddings(parts, prompt, "(bad:1.4) dog", max_embeddings_multiples=4)

    chunks = model.count_chunks(prompt)
    ours = [arrays(model.encode_prompts([text], chunks=chunks))[0] for text in (prompt, "(bad:1.4) dog")]
    for own, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(own, other.numpy(), rtol=1e-4, atol=2e-5)


def test_each_prompt_of_a_batch_is_restored_by_itself(model):
    prompts = ["(a cat:2)", "a dog", "[a toy]"]

    together = model.encode_prompts(prompts, chunks=1).hidden_states.numpy()

    alone = [model.encode_prompts([prompt], chunks=1).hidden_states.numpy()[0] for prompt in prompts]
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_weights_are_counted_in_float32_and_rows_of_weight_1_keep_every_bit(dtype):
    states = paddle.to_tensor(np.random.default_rng(0).normal(3, 200, (2, 5, 4)).astype("float32")).astype(dtype)
    weights = np.array([[1, 1, 1, 1, 1], [1, 100, 100, 1, 1]], np.float32)

    found = weighted(states, weights)

    assert found.dtype == states.dtype and bool(paddle.isfinite(found.astype("float32")).all())
    assert bool((found[0] == states[0]).all()) and bool((found[1] != states[1]).any())


def test_a_mean_that_cannot_be_restored_is_left():
    states = paddle.to_tensor([[[1.0, 1.0], [1.0, 1.0]]])

    found = weighted(states, np.array([[1, -1]], np.float32))  # their mean is 0

    np.testing.assert_array_equal(found.numpy(), [[[1, 1], [-1, -1]]])


# ----------------------------------------------------------------------------------------------------------- weight 1


@pytest.mark.parametrize("family", FAMILIES)
def test_weight_1_everywhere_is_bit_for_bit_the_plain_prompt(model_of, family):
    model = model_of(family)
    marked = [
        "a photo (of:1.0) a <cat-toy> on ((the:2):0.5) beach",
        "",
        "(<cat-toy>:1)",
        "(一张<cat-toy>:1)的照片, a toy",
    ]

    plain = arrays(model.encode_prompts(PROMPTS))
    with_marks = arrays(model.encode_prompts(marked, chunks=1))

    for one, other in zip(plain, with_marks, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_act_in_every_family(model_of, family):
    model = model_of(family)

    plain, one, all_vectors = (
        arrays(model.encode_prompts([prompt], chunks=1))[0]
        for prompt in ("a <cat-toy> toy", "a <cat-toy> (toy:1.7)", "a (<cat-toy>:1.7) toy")
    )

    ratio = [np.median(other / plain, axis=(0, 2)) for other in (one, all_vectors)]  # of each token
    weights = [row / row[0] for row in ratio]
    size = 3 + 1 + 1 + 1  # start, a, three vectors, toy
    np.testing.assert_allclose(weights[0][:size], [1, 1, 1, 1, 1, 1.7], rtol=1e-3)
    np.testing.assert_allclose(weights[1][:size], [1, 1, 1.7, 1.7, 1.7, 1], rtol=1e-3)


# ------------------------------------------------------------------------------------------------------------- chunks


@pytest.mark.parametrize("family", FAMILIES)
def test_a_long_prompt_is_its_chunks_one_after_the_other(model_of, family):
    """Each with a start and an end of its own; the pooled states are the first chunk's."""
    model = model_of(family)
    room = model.text_encoders[0].encode_ids.room
    parts = [filler(model, room), "cat " + filler(model, room - 1), "a <cat-toy>"]

    assert model.count_chunks(" ".join(parts)) == 3
    long = arrays(model.encode_prompts([" ".join(parts)], chunks=3))

    each = arrays(model.encode_prompts(parts))
    np.testing.assert_array_equal(long[0][0], np.concatenate(list(each[0])))
    if len(each) > 1:
        np.testing.assert_array_equal(long[1][0], each[1][0])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("short_of", "chunks"), [(3, 1), (2, 2), (1, 2), (0, 2)])
def test_no_chunk_ends_within_a_word(model_of, family, short_of, chunks):
    """A word of three vectors that would not fit into the rest of a chunk stands in the next one."""
    model = model_of(family)
    encode_ids = model.text_encoders[0].encode_ids
    text = filler(model, encode_ids.room - short_of)

    found = encode_ids.chunks(f"{text} ({WORD}:1.5)")

    assert len(found) == chunks
    assert found[-1].ids[-3:] == encode_ids.token_ids(WORD) and found[-1].weights[-3:] == [1.5] * 3
    if chunks == 2:
        assert (len(found[0].ids), len(found[1].ids)) == (encode_ids.room - short_of, 3)
    states = model.encode_prompts([f"{text} {WORD}"], chunks=chunks).hidden_states.numpy()
    parts = [f"{text} {WORD}"] if chunks == 1 else [text, WORD]
    np.testing.assert_array_equal(states[0], np.concatenate(list(model.encode_prompts(parts).hidden_states.numpy())))


def test_a_prompt_is_filled_up_with_empty_chunks(model):
    found = model.encode_prompts(["a cat"], chunks=3).hidden_states.numpy()

    cat, nothing = model.encode_prompts(["a cat", ""]).hidden_states.numpy()
    np.testing.assert_allclose(found[0], np.concatenate([cat, nothing, nothing]), rtol=1e-5, atol=1e-6)


def test_a_prompt_that_needs_more_chunks_is_refused(model):
    with pytest.raises(SettingsError, match="a prompt of 2 chunks does not fit into 1"):
        model.encode_prompts([toys(80)], chunks=1)


def test_the_vectors_that_are_read_are_those_of_the_reading(model):
    """Of a prompt in chunks too: one of three vectors leaves room for two more tokens, initial ones have other ids."""
    encode_ids = model.text_encoders[0].encode_ids
    text = f"{toys(encode_ids.room - 1)} {WORD}"

    assert len(encode_ids.chunks(text)) == 2
    (only,) = encode_ids.chunks(text, Reading(vectors={WORD: [1]}))
    assert only.ids[-1] == encode_ids.token_ids(WORD)[1]
    initial = encode_ids.chunks(text, Reading(initial=True))[1].ids
    assert initial == encode_ids.token_ids(WORD, Reading(initial=True)) != encode_ids.token_ids(WORD)


def test_gradients_reach_the_vectors_through_weights_and_chunks(model):
    states = model.encode_prompts([f"{toys(75)} ({WORD}:1.5)"], chunks=2).hidden_states
    parameter = model.text_encoders[0].layer.get_input_embeddings().parts[0]

    (gradient,) = paddle.grad(states[:, 77:].square().sum(), [parameter])

    assert float(gradient.abs().sum(axis=1).min()) > 0


# --------------------------------------------------------------------------------------------------------- refusals


def test_a_word_larger_than_a_chunk_is_refused_by_name(model_of):
    model = model_of("sdxl")
    rows = {e.name: np.ones((80, e.embedding_width), np.float32) for e in model.text_encoders}
    before = [(e.layer.get_input_embeddings(), e.encode_ids) for e in model.text_encoders]
    try:
        attach_concepts(model, {"<big>": 80}, rows)
        with pytest.raises(SettingsError, match="<big> has 80 vectors, and a chunk of a prompt has room for 75; leave"):
            model.count_chunks("a <big>")
    finally:
        for encoder, (table, encode_ids) in zip(model.text_encoders, before, strict=True):
            encoder.layer.set_input_embeddings(table)
            encoder.encode_ids = encode_ids


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("a (cat:1000000000)", "'cat' has the weight 1e+09; weights go from -100 to 100, those of nested"),
        ("a (cat:-101)", "has the weight -101; weights"),
        ("(" * 9_000 + "cat", "has the weight inf; weights"),
        ("((cat:0):" + "9" * 400 + ")", "has the weight nan; weights"),
        ("x" * 10_001, "a text of 10001 letters"),
    ],
    ids=range(5),
)
def test_what_cannot_be_encoded_is_refused_in_one_line(model, prompt, message):
    with pytest.raises(SettingsError, match=message.replace("+", r"\+")) as refusal:
        model.count_chunks(prompt)

    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 300


@pytest.mark.parametrize(
    "prompt", ["[" * 9_000 + "cat", "(cat:100)", "(cat:-100)", "(cat:0)", "()" * 5_000, "(" * 10_000]
)
def test_the_outermost_weights_are_encoded(model, prompt):
    states = model.encode_prompts([prompt], chunks=model.count_chunks(prompt)).hidden_states

    assert bool(paddle.isfinite(states).all())
