"""Cross-attention maps of every family: shares that add up to 1, words at their tokens, images that keep every bit."""

import numpy as np
import paddle
import pytest

from helpers.tiny_models import FAMILIES, build_model
from textual_inversion.generation.generate import ImageRequest, generate_batches
from textual_inversion.models.attach import attach_concepts
from textual_inversion.models.attention_maps import AttentionMaps, recorded, share_outside, word_map
from textual_inversion.models.base_model import load_base_model
from textual_inversion.models.layers.attention import work_in_blocks

WORD = "<w>"


def drawn(model, requests, batch=(0, 1), **how):
    seen = {}
    images = dict(generate_batches(model, requests, [list(batch)], **how))
    watched = dict(generate_batches(model, requests, [list(batch)], attention=seen.__setitem__, **how))
    return images, watched, seen


def with_word(model, count=2):
    vectors = {one.name: np.full((count, one.embedding_width), 0.02, np.float32) for one in model.text_encoders}
    attach_concepts(model, {WORD: count}, vectors)
    return model


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_the_shares_of_all_tokens_add_up_to_one_and_the_images_stay(tmp_path, family, scale):
    model = with_word(load_base_model(build_model(tmp_path, family)))
    requests = [ImageRequest(f"a {WORD}", seed, guidance_scale=scale, num_inference_steps=2) for seed in (1, 2)]
    images, watched, seen = drawn(model, requests)
    for position in (0, 1):
        assert np.array_equal(np.asarray(images[position]), np.asarray(watched[position]))
        maps = seen[position]
        assert maps.shape[1:] == (8, 8) and maps.shape[0] == model.text_encoders[0].encode_ids.max_length
        assert np.allclose(maps.sum(axis=0), 1, atol=1e-4) and (maps >= 0).all()
    assert not np.allclose(seen[0], seen[1])  # each image has its own
    assert all(type(p.processor).__name__ != "_Watched" for p in model.unet.sublayers() if hasattr(p, "processor"))


def test_maps_are_those_of_the_prompt_and_not_of_what_guidance_leads_away_from(tmp_path):
    model = with_word(load_base_model(build_model(tmp_path)))
    one = [ImageRequest(f"a {WORD}", 1, guidance_scale=4.0, num_inference_steps=1)]
    other = [ImageRequest(f"a {WORD}", 1, negative_prompt="cat dog toy", guidance_scale=4.0, num_inference_steps=1)]
    (maps,), (same,) = (list(drawn(model, requests, batch=(0,))[2].values()) for requests in (one, other))
    assert np.array_equal(maps, same)


def test_layers_that_work_in_blocks_give_the_same_maps(tmp_path):
    model = with_word(load_base_model(build_model(tmp_path)))
    requests = [ImageRequest(f"a {WORD}", 1, guidance_scale=1.0, num_inference_steps=1)]
    plain = drawn(model, requests, batch=(0,))[2][0]
    work_in_blocks(model.unet, keep=0)
    assert np.allclose(drawn(model, requests, batch=(0,))[2][0], plain, atol=1e-6)


def test_a_made_up_layer_by_value():
    maps = AttentionMaps(1, (2, 2))
    weights = np.array([[[0.0, 1.0], [1.0, 0.0], [0.5, 0.5], [0.25, 0.75]]], np.float32)  # (1, N = 4, M = 2)
    maps.add(paddle.to_tensor(np.concatenate([1 - weights, weights])))  # with guidance: the prompt's is the last
    assert np.allclose(maps.maps(), [[[[0, 1], [0.5, 0.25]], [[1, 0], [0.5, 0.75]]]])
    maps.add(paddle.to_tensor(np.full((1, 1, 2), 0.5, np.float32)))  # a layer of half the size: one pixel
    assert np.allclose(maps.maps()[0, 0], [[0.25, 0.75], [0.5, 0.375]])
    assert np.allclose(word_map(maps.maps()[0], [0, 1]), 0.5)


def test_what_another_thread_draws_is_not_recorded(tmp_path):
    import threading

    model = with_word(load_base_model(build_model(tmp_path)))
    requests = [ImageRequest(f"a {WORD}", 1, guidance_scale=1.0, num_inference_steps=1)]
    with recorded(model.unet, 1, (8, 8)) as maps:
        thread = threading.Thread(target=lambda: list(generate_batches(model, requests, [[0]])))
        thread.start()
        thread.join()
    with pytest.raises(ValueError):
        maps.maps()


@pytest.mark.parametrize("heat, share", [([[1, 1], [0, 0]], 0.0), ([[0, 0], [3, 1]], 1.0), ([[1, 1], [1, 1]], 0.5)])
def test_the_share_outside_the_thing(heat, share):
    assert share_outside(np.array(heat, float), np.array([[1.0, 1.0], [0.0, 0.0]])) == share


def test_words_and_the_positions_of_their_tokens(tmp_path):
    encode = with_word(load_base_model(build_model(tmp_path)), count=3).text_encoders[0].encode_ids
    places = encode.places(f"a {WORD} cat")
    assert places[1] == (WORD, [2, 3, 4]) and places[0] == ("a", [1]) and places[2][1] == [5]
    ids = encode([f"a {WORD} cat"])[0]
    assert [ids[i] for i in places[1][1]] == encode.token_ids(WORD)
    assert [word for word, _ in encode.places(f"(a:1.3) {WORD}", reads_marks=True)] == ["a", WORD]
    long = encode.places("a " * 80 + WORD, reads_marks=True)
    assert long[-1][1] == [encode.max_length + 1 + (80 - encode.room) + i for i in range(3)]
    assert len(encode.places("a " * 80 + WORD)) == encode.room  # the rest is not read
