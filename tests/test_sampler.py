"""A training sample is a pure function of (seed, step, index, global batch)."""

import numpy as np
import pytest

from textual_inversion.sampler import SampleStream, generator


def stream(**changes) -> SampleStream:
    settings = dict(
        seed=7,
        num_images=5,
        templates=("a photo of a {}", "a picture of the {}", "the {}"),
        placeholder="<cat-toy>",
        latent_shape=(4, 3, 2),
        global_batch=8,
    )
    return SampleStream(**settings | changes)


def assert_equal(one, other):
    for name, value in vars(one).items():
        np.testing.assert_array_equal(value, getattr(other, name), err_msg=name)


def test_the_same_place_gives_the_same_sample_in_any_order():
    late_first, early = stream().batch(90, range(8)), stream().batch(3, range(8))

    assert_equal(early, stream().batch(3, range(8)))
    assert_equal(late_first, stream().batch(90, range(8)))


@pytest.mark.parametrize(("world_size", "accumulation"), [(1, 1), (1, 4), (2, 2), (4, 1), (4, 2)])
def test_how_a_global_batch_is_cut_changes_nothing(world_size, accumulation):
    parts = [batch for rank in range(world_size) for batch in stream().micro_batches(5, rank, world_size, accumulation)]

    whole = stream().batch(5, range(8))
    for name in ("images", "flips", "noise", "posterior_noise", "offset_noise", "timesteps"):
        np.testing.assert_array_equal(np.concatenate([getattr(p, name) for p in parts]), getattr(whole, name))
    assert [prompt for p in parts for prompt in p.prompts] == whole.prompts


def test_every_cycle_shows_every_image_once_and_orders_differ():
    s = stream(global_batch=4)
    shown = [s.image_of(step, index) for step in range(50) for index in range(4)]

    cycles = [tuple(shown[i : i + 5]) for i in range(0, 200, 5)]
    assert all(sorted(cycle) == [0, 1, 2, 3, 4] for cycle in cycles)
    assert len(set(cycles)) > 10


def test_samples_differ_by_seed_step_and_index():
    base = stream().batch(0, [0]).noise
    others = [stream(seed=8).batch(0, [0]).noise, stream().batch(1, [0]).noise, stream().batch(0, [1]).noise]

    assert all(np.abs(base - other).max() > 0.1 for other in others)


def test_draws_follow_their_distributions():
    batches = [stream(num_train_timesteps=1000, flip_p=0.25).batch(step, range(8)) for step in range(250)]

    noise = np.concatenate([b.noise for b in batches])
    timesteps = np.concatenate([b.timesteps for b in batches])
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02
    assert timesteps.min() >= 0 and timesteps.max() < 1000
    assert abs(timesteps.mean() - 499.5) < 30
    assert abs(np.concatenate([b.flips for b in batches]).mean() - 0.25) < 0.04
    assert {prompt for b in batches for prompt in b.prompts} == {
        "a photo of a <cat-toy>",
        "a picture of the <cat-toy>",
        "the <cat-toy>",
    }


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_flips_can_be_switched_off_and_on(p):
    assert set(stream(flip_p=p).batch(0, range(8)).flips) == {bool(p)}


@pytest.mark.parametrize("size", [1, 2, 7, 16, 30])
def test_the_fixed_set_covers_images_and_schedule_evenly(size):
    batch = stream().evaluation_batch(size)

    assert sorted(batch.timesteps) == [int((i + 0.5) * 1000 / size) for i in range(size)]
    assert not batch.flips.any()
    counts = np.bincount(batch.images, minlength=5)
    assert counts.max() - counts.min() <= 1
    assert_equal(batch, stream().evaluation_batch(size))


def test_purposes_have_streams_of_their_own():
    draws = [generator(1, purpose).standard_normal() for purpose in range(4)]

    assert len(set(draws)) == 4


def test_braces_of_a_placeholder_or_caption_are_left_alone():
    s = stream(templates=("{} with {braces}",), placeholder="<a{}b>")

    assert s.batch(0, [0]).prompts == ["<a{}b> with {braces}"]
