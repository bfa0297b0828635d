"""Images depend on their request alone."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import paddle
import pytest
from PIL import Image

from helpers.tiny_models import FAMILIES, build_model
from textual_inversion.generation import generate as generation
from textual_inversion.generation.generate import (
    ImageRequest,
    batches,
    blank_notes,
    generate,
    generate_each,
    total_steps,
)
from textual_inversion.generation.noise import drawing_from, noise_generator
from textual_inversion.models.attach import attach_concepts
from textual_inversion.models.base_model import load_base_model
from textual_inversion.settings.choices import SCHEDULERS
from textual_inversion.system.errors import SettingsError

WORDS = ("cat", "dog", "toy")
STOCHASTIC = ("ddpm", "euler-a", "kdpm2-a", "lcm")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_base_model(build_model(tmp_path_factory.mktemp("base") / "sd1"))


def requests(steps=3, guidance_scale=4.0, seeds=(1, 2)):
    return [
        ImageRequest(f"a photo of a {word}", seed, guidance_scale=guidance_scale, num_inference_steps=steps)
        for seed in seeds
        for word in WORDS
    ]


def pixels(images):
    return np.stack([np.asarray(image, dtype=np.int16) for image in images])


class Counted:
    """Counts calls of a layer's forward and the samples in them."""

    def __init__(self, layer):
        self.samples = []
        self._hook = layer.register_forward_pre_hook(lambda _, inputs: self.samples.append(inputs[0].shape[0]))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._hook.remove()


class Recorder:
    """A progress that remembers."""

    def __init__(self):
        self.steps = []

    def update(self, step, **figures):
        self.steps.append(step)


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", [None, *SCHEDULERS])
def test_an_image_is_the_same_in_any_batch(model, scheduler):
    wanted = requests()

    together = pixels(generate(model, wanted, scheduler=scheduler, batch_size=6))
    alone = pixels(generate(model, wanted[:2], scheduler=scheduler, batch_size=1))
    shuffled = pixels(generate(model, wanted[::-1], scheduler=scheduler, batch_size=4))[::-1]

    assert np.abs(together[:2] - alone).max() <= 1 and np.abs(together - shuffled).max() <= 1
    assert np.abs(together[0] - together[3]).max() > 20  # another seed is another image


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", STOCHASTIC)
def test_stochastic_schedulers_do_not_hear_paddles_own_generator(model, scheduler):
    wanted = requests()[:2]

    paddle.seed(1)
    first = pixels(generate(model, wanted, scheduler=scheduler))
    paddle.seed(2)
    second = pixels(generate(model, wanted, scheduler=scheduler))

    np.testing.assert_array_equal(first, second)


def test_the_first_noise_is_that_of_the_seed(model):
    seen = []
    hook = model.unet.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        generate(model, requests(steps=1, guidance_scale=1.0)[:2], scheduler="ddim")
    finally:
        hook.remove()

    expected = noise_generator(1).standard_normal((4, 8, 8), dtype=np.float32)
    np.testing.assert_allclose(seen[0][0].numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(seen[0][1].numpy(), expected, rtol=1e-6)  # same seed, another prompt


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["ddim", "pndm", "dpm++"])
def test_images_are_those_of_ppdiffusers_own_call(model, scheduler):
    latents = np.stack([noise_generator(seed).standard_normal((4, 8, 8), dtype=np.float32) for seed in (1, 2)])
    settings = dict(num_inference_steps=4, guidance_scale=4.0)

    expected = model.pipeline(scheduler)(
        ["a red cat", "a blue dog"], negative_prompt=["bad", "dark"], latents=paddle.to_tensor(latents), **settings
    ).images
    wanted = [ImageRequest("a red cat", 1, "bad", **settings), ImageRequest("a blue dog", 2, "dark", **settings)]

    np.testing.assert_array_equal(pixels(generate(model, wanted, scheduler=scheduler)), pixels(expected))


def test_seeds_of_64_bits_are_all_different():
    draws = [noise_generator(seed).standard_normal() for seed in (0, 1, 2**63, 2**63 + 1, 2**64 - 1)]

    assert len(set(draws)) == len(draws)


def test_each_distinct_prompt_is_encoded_once(model):
    encoded = []
    encode_prompts = model.encode_prompts
    model.encode_prompts = lambda prompts, *how: encoded.extend(prompts) or encode_prompts(prompts, *how)
    try:
        generate(model, requests(seeds=(1, 2, 3)), batch_size=2)
    finally:
        del model.encode_prompts

    assert sorted(encoded) == sorted(["", *(f"a photo of a {word}" for word in WORDS)])


@pytest.mark.parametrize(("guidance_scale", "samples"), [(0.0, 3), (1.0, 3), (1.5, 6)])
def test_without_guidance_half_the_work_is_done(model, guidance_scale, samples):
    with Counted(model.unet) as counted:
        generate(model, requests(steps=2, guidance_scale=guidance_scale, seeds=(1,)), scheduler="ddim")

    assert counted.samples == [samples, samples]


def test_the_negative_prompt_counts_only_with_guidance(model):
    def image(negative_prompt, guidance_scale):
        request = ImageRequest("a cat", 5, negative_prompt, guidance_scale, num_inference_steps=3)
        return pixels(generate(model, [request]))

    assert np.abs(image("", 5.0) - image("a dog", 5.0)).max() > 0
    np.testing.assert_array_equal(image("", 1.0), image("a dog", 1.0))


def test_only_alike_requests_share_a_batch_and_the_order_is_kept(model):
    mixed = [
        ImageRequest("a cat", 1, num_inference_steps=2),
        ImageRequest("a dog", 2, num_inference_steps=3),
        ImageRequest("a toy", 3, num_inference_steps=2),
        ImageRequest("a cat", 4, guidance_scale=1.0, num_inference_steps=2),
        ImageRequest("a dog", 5, num_inference_steps=2),
    ]

    assert batches(mixed, 2) == [[0, 2], [4], [1], [3]]
    images = pixels(generate(model, mixed, batch_size=2))
    for request, image in zip(mixed, images, strict=True):
        assert np.abs(pixels(generate(model, [request]))[0] - image).max() <= 1


def test_each_request_may_have_its_own_scheduler_size_and_eta(model):
    mixed = [
        ImageRequest("a cat", 1, num_inference_steps=3, scheduler="ddim"),
        ImageRequest("a cat", 1, num_inference_steps=3, scheduler="ddim", eta=1.0),
        ImageRequest("a cat", 1, num_inference_steps=3, scheduler="euler-a", height=32),
        ImageRequest("a cat", 1, num_inference_steps=3, scheduler="ddim", width=32),
        ImageRequest("a cat", 1, num_inference_steps=3),
    ]

    images = generate(model, mixed, batch_size=8)

    assert [image.size for image in images] == [(16, 16), (16, 16), (16, 32), (32, 16), (16, 16)]
    assert np.abs(pixels([images[0]]) - pixels([images[1]])).max() > 20  # eta adds noise
    for request, image in zip(mixed, images, strict=True):
        alone = generate(model, [request])
        np.testing.assert_array_equal(pixels(alone), pixels([image]))
    by_argument = generate(model, [ImageRequest("a cat", 1, num_inference_steps=3)], scheduler="ddim")
    np.testing.assert_array_equal(pixels(by_argument), pixels([images[0]]))


def test_learned_words_act_once_and_only_through_the_models_own_encoder(model):
    rows = np.random.default_rng(0).standard_normal((2, model.embedding_width)).astype(np.float32)
    encoder = model.text_encoders[0]
    plain = (encoder.layer.get_input_embeddings(), encoder.encode_ids)
    before = pixels(generate(model, [ImageRequest("a <cat-toy>", 1, num_inference_steps=2)]))
    try:
        attach_concepts(model, {"<cat-toy>": 2}, {encoder.name: rows})
        with Counted(encoder.layer) as counted:
            after = pixels(generate(model, [ImageRequest("a <cat-toy>", 1, num_inference_steps=2)]))
    finally:
        encoder.layer.set_input_embeddings(plain[0])
        encoder.encode_ids = plain[1]

    assert counted.samples == [1, 1]  # the prompt and the empty one; the pipeline itself encoded nothing
    assert np.abs(before - after).max() > 0


def weighted_requests():
    """Prompts and negative prompts of one, two and three chunks."""
    long = "dog " * 80
    texts = [("a (cat:1.5)", ""), (long, ""), ("a (cat:1.5)", long), (long + long, "[bad]"), ("a [dog]", "(bad:1.2)")]
    return [
        ImageRequest(prompt, seed, negative, 4.0, 2, scheduler="ddim", prompt_weights=True)
        for seed, (prompt, negative) in enumerate(texts)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_weights_and_long_prompts_reach_the_images_of_every_family(tmp_path, family):
    model = load_base_model(build_model(tmp_path / "base", family))
    prompts = ["a cat", "a (cat:1.0)", "a (cat:1.8)", "toy " * 100, "toy " * 100 + "(cat:1.8)"]
    size = dict(height=64, width=64) if family == "ldm" else {}
    requests = [ImageRequest(p, 1, "a [dog]", 6.0, 2, prompt_weights=True, **size) for p in prompts]
    requests += [replace(one, prompt_weights=on, negative_prompt="") for one in requests[:1] for on in (True, False)]

    plain, weight_1, weighted, long, longer, on, off = pixels(generate(model, requests))

    assert np.array_equal(plain, weight_1) and np.abs(on - off).max() <= 1  # in batches of different sizes
    assert not np.array_equal(plain, weighted) and not np.array_equal(long, longer)


def test_negative_prompts_have_weights_too(model):
    one = ImageRequest("a cat", 1, "a (dog:1.9)", 8.0, 2, prompt_weights=True)

    weighted, plain = pixels(generate(model, [one, replace(one, negative_prompt="a dog")]))

    assert not np.array_equal(weighted, plain)


def test_prompts_of_different_numbers_of_chunks_do_not_share_a_batch(model):
    with Counted(model.unet) as counted:
        together = pixels(generate(model, weighted_requests(), batch_size=5))

    # One chunk: the first and the last; two: the second and the third; three: the fourth. Each with its negative.
    assert counted.samples == [4, 4, 4, 4, 2, 2]
    alone = [pixels(generate(model, [request]))[0] for request in weighted_requests()]
    assert np.abs(together - np.stack(alone)).max() <= 1


def test_prompt_and_negative_prompt_are_padded_to_the_same_number_of_chunks(model, monkeypatch):
    encoded, encode_prompts = {}, model.encode_prompts
    monkeypatch.setattr(
        model,
        "encode_prompts",
        lambda prompts, readings, size, chunks: (
            encoded.setdefault(chunks, []).extend(prompts) or encode_prompts(prompts, readings, size, chunks)
        ),
        raising=False,
    )

    generate(model, weighted_requests())

    long = "dog " * 80
    assert encoded == {
        1: ["a (cat:1.5)", "", "a [dog]", "(bad:1.2)"],
        2: [long, "", "a (cat:1.5)"],
        3: [long + long, "[bad]"],
    }


def test_without_guidance_a_negative_prompt_adds_no_chunks(model):
    request = ImageRequest("a cat", 1, "dog " * 200, 1.0, 2)

    plain, weighted = pixels(generate(model, [request, replace(request, prompt_weights=True)]))

    assert np.array_equal(plain, weighted)


def test_weighted_and_plain_requests_do_not_share_a_batch():
    plain = ImageRequest("a (cat:1.5)", 1)

    assert batches([plain, replace(plain, prompt_weights=True), plain], 4) == [[0, 2], [1]]


def test_initial_vectors_have_weights_too_whatever_the_word_looks_like(model):
    encoder = model.text_encoders[0]
    plain = (encoder.layer.get_input_embeddings(), encoder.encode_ids)
    rows = np.random.default_rng(1).normal(size=(2, encoder.embedding_width)).astype(np.float32)
    request = ImageRequest(r"a (\(cat-toy\):1.3)", 1, num_inference_steps=2, prompt_weights=True)
    try:
        embedding = attach_concepts(model, {"(cat-toy)": 2}, {encoder.name: rows})[encoder.name]
        (before,) = pixels(generate(model, [request]))
        embedding.parts[0].set_value(-rows)
        started, now = pixels(generate(model, [replace(request, initial_vectors=True), request]))
    finally:
        encoder.layer.set_input_embeddings(plain[0])
        encoder.encode_ids = plain[1]

    assert np.abs(started - before).max() <= 1 and np.abs(now - before).max() > 1


def test_progress_counts_denoising_steps_of_all_images(model):
    wanted = requests(steps=3)

    for scheduler in ("ddim", "heun"):
        progress = Recorder()
        generate(model, wanted, scheduler=scheduler, batch_size=4, progress=progress)
        assert progress.steps == sorted(progress.steps)
        assert progress.steps[-1] == total_steps(wanted) == 18


def test_images_come_batch_by_batch(model):
    stream = generate_each(model, requests(), batch_size=2)

    with Counted(model.unet) as counted:
        assert [next(stream)[0], next(stream)[0]] == [0, 1]
        calls = len(counted.samples)
        assert next(stream)[0] == 2

    assert 0 < calls < len(counted.samples)


def test_size(model):
    assert model.image_size() == (16, 16)
    assert [image.size for image in generate(model, requests(steps=1)[:1], height=24, width=32)] == [(32, 24)]


@pytest.mark.parametrize(("flag", "size"), [("--height", dict(height=20)), ("--width", dict(width=0))])
def test_a_size_that_the_model_cannot_make_is_refused(model, flag, size):
    with pytest.raises(SettingsError, match=f"{flag} .* multiples of 8; try"):
        generate(model, requests()[:1], **size)


def test_large_images_are_decoded_one_by_one_and_the_vae_is_left_as_it_was(model, monkeypatch):
    monkeypatch.setattr(generation, "_SLICED_PIXELS", 24 * 24)
    with Counted(model.vae.decoder) as counted:
        generate(model, requests(steps=1)[:2], height=24, width=24, batch_size=2)
        generate(model, requests(steps=1)[:2], batch_size=2)

    assert counted.samples == [1, 1, 2]
    assert model.vae.use_slicing is False


# ---------------------------------------------------------------------------------------- several generators at once


def names_in(scheduler):
    """Every global name that the methods of a scheduler's class read, with its value."""
    own = {name: value for name, value in vars(type(scheduler)).items() if name != "__slotnames__"}  # copy's cache
    return dict(vars(sys.modules[type(scheduler).__module__])), own


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_generation_leaves_pipeline_scheduler_and_vae_as_they_were(model, name, monkeypatch):
    monkeypatch.setattr(generation, "_SLICED_PIXELS", 0)
    pipe = model.pipeline(name)
    before = names_in(pipe.scheduler), dict(vars(pipe)), dict(vars(pipe.scheduler)), dict(vars(model.vae))

    generate(model, requests(steps=2)[:2], pipeline=pipe)

    after = names_in(pipe.scheduler), vars(pipe), vars(pipe.scheduler), vars(model.vae)
    assert before[0] == after[0]
    for old, new in zip(before[1:], after[1:], strict=True):
        assert list(old) == list(new) and all(old[key] is new[key] for key in old)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_schedulers_copy_draws_from_its_own_generators_only(model, name, monkeypatch):
    scheduler = model.pipeline(name).scheduler
    monkeypatch.setattr(sys.modules[type(scheduler).__module__], "randn_tensor", None, raising=False)
    copies = [drawing_from(scheduler, [noise_generator(seed)]) for seed in (1, 2)]
    sample, ends = paddle.ones([1, 4, 8, 8]), []
    for one in copies:
        one.set_timesteps(4)
        state = sample
        for t in one.timesteps:
            state = one.step(one.scale_model_input(state, t) * 0.5, t.reshape([1]), state).prev_sample
        ends.append(state.numpy())

    assert np.isfinite(ends).all()
    assert (ends[0] != ends[1]).any() == (name in STOCHASTIC)


def on_threads(*jobs):
    """The results of functions that begin at the same moment, each on its own thread."""
    begin = threading.Barrier(len(jobs))

    def run(job):
        begin.wait()
        return job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result() for future in [pool.submit(run, job) for job in jobs]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second"),
    [("euler-a", "euler-a"), ("ddpm", "euler-a"), ("lcm", "lcm"), ("kdpm2-a", "dpm++"), ("pndm", "pndm")],
)
def test_two_threads_draw_what_one_after_the_other_draws(model, monkeypatch, first, second):
    monkeypatch.setattr(generation, "_SLICED_PIXELS", 24 * 24)  # one of them decodes image by image
    sets = [
        (requests(steps=4, seeds=(1, 2)), dict(scheduler=first, batch_size=2)),
        (requests(steps=5, seeds=(3,), guidance_scale=2.0), dict(scheduler=second, batch_size=3, height=24, width=24)),
    ]
    progress = [Recorder(), Recorder()]

    def job(number):
        wanted, settings = sets[number]
        return lambda: pixels(generate(model, wanted, progress=progress[number], **settings))

    alone = [job(number)() for number in (0, 1)]
    steps = [list(one.steps) for one in progress]
    for _ in range(5):
        for one in progress:
            one.steps.clear()
        together = on_threads(job(0), job(1))
        for one, other in zip(together, alone, strict=True):
            np.testing.assert_array_equal(one, other)
        assert [one.steps for one in progress] == steps


@pytest.mark.slow
def test_two_threads_can_share_a_pipeline(model):
    pipe = model.pipeline("euler-a")
    jobs = [lambda seed=seed: pixels(generate(model, requests(seeds=(seed,)), pipeline=pipe)) for seed in (1, 2)]

    alone = [job() for job in jobs]

    for _ in range(5):
        for one, other in zip(on_threads(*jobs), alone, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_freed_vae_is_loaded_once_by_two_threads(model):
    model.free_vae()

    one, other = on_threads(lambda: model.vae, lambda: model.vae)

    assert one is other is model.vae


def test_images_of_the_initial_vectors(model):
    encoder = model.text_encoders[0]
    plain = (encoder.layer.get_input_embeddings(), encoder.encode_ids)
    rows = np.random.default_rng(1).normal(size=(2, encoder.embedding_width)).astype(np.float32)
    request = ImageRequest("a <cat-toy>", 1, "a dog", num_inference_steps=2)
    initial = replace(request, initial_vectors=True)
    try:
        embedding = attach_concepts(model, {"<cat-toy>": 2}, {encoder.name: rows})[encoder.name]
        (before,) = pixels(generate(model, [request]))
        embedding.parts[0].set_value(-rows)
        encoded, encode_prompts = [], model.encode_prompts
        model.encode_prompts = lambda prompts, *how: encoded.extend(prompts) or encode_prompts(prompts, *how)
        started, now = pixels(generate(model, [initial, request]))
    finally:
        del model.encode_prompts
        encoder.layer.set_input_embeddings(plain[0])
        encoder.encode_ids = plain[1]

    assert np.abs(started - before).max() <= 1 and np.abs(now - before).max() > 1
    assert encoded == ["a <cat-toy>", "a dog", "a <cat-toy>"]  # what holds no placeholder is encoded once


def test_images_of_one_colour_are_told_unless_a_safety_checker_made_them():
    black, red, drawn = Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8), "red"), Image.linear_gradient("L")
    checked = Image.new("RGB", (8, 8))
    checked.info["safety_checker"] = "blacked out"

    assert blank_notes([drawn, checked]) == [] and blank_notes([]) == []
    (note,) = blank_notes([black, drawn, red, checked])
    assert note.startswith("2 of 4 images hold one colour only, as where a model computes NaN;")
