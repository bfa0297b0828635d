"""A training sample is a pure function of (seed, step, index, global batch)."""

import zlib

import numpy as np
import pytest

from textual_inversion.data import image_order, random_streams, sampler, timesteps
from textual_inversion.data.noise import MultiresolutionNoise
from textual_inversion.data.random_streams import Purpose, generator
from textual_inversion.data.sampler import SampleStream, TrainingImage

TEMPLATES = ("a photo of a {}", "a picture of the {}", "the {}")
ARRAYS = ("images", "flips", "crops", "posterior_noise", "noise", "perturbation", "offset_noise", "timesteps")


def images_of(*counts, buckets=None):
    """Images by concept: `counts` images of <cat-toy>, <dog>, <style>, in the buckets given in turn."""
    words = ("<cat-toy>", "<dog>", "<style>")
    concepts = [concept for concept, count in enumerate(counts) for _ in range(count)]
    return tuple(
        TrainingImage(c, tuple(t.replace("{}", words[c]) for t in TEMPLATES), buckets[i] if buckets else 0)
        for i, c in enumerate(concepts)
    )


def stream(**changes) -> SampleStream:
    settings = dict(seed=7, images=images_of(5), latent_shapes=((4, 3, 2),), global_batch=8)
    return SampleStream(**settings | changes)


def three_of_all_kinds(**changes) -> SampleStream:
    """Three concepts with 2, 5 and 1 images in three buckets, and vectors in an order of the sample's own."""
    settings = dict(
        images=images_of(2, 5, 1, buckets=(0, 1, 0, 0, 1, 2, 1, 2)),
        latent_shapes=((4, 3, 2), (4, 2, 3), (4, 2, 2)),
        vary=lambda g, step: {"<dog>": tuple(int(i) for i in g.permutation(3)[: 1 + step % 3])},
    )
    return stream(**settings | changes)


def assert_equal(one, other):
    for name, value in vars(one).items():
        np.testing.assert_array_equal(value, getattr(other, name), err_msg=name)


def test_the_same_place_gives_the_same_sample_in_any_order():
    late_first, early = stream().batch(90, range(8)), stream().batch(3, range(8))

    assert_equal(early, stream().batch(3, range(8)))
    assert_equal(late_first, stream().batch(90, range(8)))


def test_the_numbers_of_a_seed_stay_what_they_are():
    batch = stream().batch(3, range(8))

    assert batch.images.tolist() == [0, 3, 4, 2, 0, 1, 3, 2]
    assert batch.timesteps.tolist() == [876, 388, 231, 819, 755, 372, 518, 397]
    assert batch.flips.tolist() == [True, True, False, True, True, True, True, False]
    assert zlib.crc32(batch.noise.tobytes()) == 1079155941
    assert zlib.crc32(batch.posterior_noise.tobytes()) == 2010350124


@pytest.mark.parametrize("make", [stream, three_of_all_kinds])
@pytest.mark.parametrize(("world_size", "accumulation"), [(1, 1), (1, 4), (2, 2), (4, 1), (4, 2)])
def test_how_a_global_batch_is_cut_changes_nothing(make, world_size, accumulation):
    check_cut(make, world_size, accumulation)


def check_cut(make, world_size, accumulation):
    """The parts of a global batch of 8 put together are the whole, in all that a sample is."""
    for step in range(5):
        parts = [b for rank in range(world_size) for b in make().micro_batches(step, rank, world_size, accumulation)]

        whole = make().batch(step, range(8))
        for name in ARRAYS:
            np.testing.assert_array_equal(np.concatenate([getattr(p, name) for p in parts]), getattr(whole, name))
        assert [prompt for p in parts for prompt in p.prompts] == whole.prompts
        assert {p.bucket for p in parts} == {whole.bucket}
        assert whole.vectors is None or [choice for p in parts for choice in p.vectors] == whole.vectors


def test_every_cycle_shows_every_image_once_and_orders_differ():
    s = stream(global_batch=4)
    shown = [s.image_of(step, index) for step in range(50) for index in range(4)]

    cycles = [tuple(shown[i : i + 5]) for i in range(0, 200, 5)]
    assert all(sorted(cycle) == [0, 1, 2, 3, 4] for cycle in cycles)
    assert len(set(cycles)) > 10


def test_samples_differ_by_seed_step_and_index():
    for name in ("noise", "posterior_noise", "perturbation", "offset_noise", "crops"):
        base = getattr(stream().batch(0, [0]), name)
        others = [stream(seed=8).batch(0, [0]), stream().batch(1, [0]), stream().batch(0, [1])]

        assert all(np.abs(base - getattr(other, name)).max() > 1e-3 for other in others)


def test_draws_follow_their_distributions():
    batches = [stream(num_train_timesteps=1000, flip_p=0.25).batch(step, range(8)) for step in range(250)]

    for name in ("noise", "perturbation"):
        noise = np.concatenate([getattr(b, name) for b in batches])
        assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02 and noise.dtype == np.float32
    timesteps = np.concatenate([b.timesteps for b in batches])
    assert timesteps.min() >= 0 and timesteps.max() < 1000
    assert abs(timesteps.mean() - 499.5) < 30
    assert abs(np.concatenate([b.flips for b in batches]).mean() - 0.25) < 0.04
    crops = np.concatenate([b.crops for b in batches])
    assert crops.min() >= 0 and crops.max() < 1 and abs(crops.mean(axis=0) - 0.5).max() < 0.03
    assert {prompt for b in batches for prompt in b.prompts} == {t.replace("{}", "<cat-toy>") for t in TEMPLATES}


def test_timesteps_stay_in_their_range():
    s = stream(timestep_range=(200, 210))

    drawn = np.concatenate([s.batch(step, range(8)).timesteps for step in range(40)])

    assert set(drawn) == set(range(200, 210))
    assert set(s.evaluation_batches(20)[0].timesteps) == set(range(200, 210))


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_flips_can_be_switched_off_and_on(p):
    assert set(stream(flip_p=p).batch(0, range(8)).flips) == {bool(p)}


@pytest.mark.parametrize("size", [1, 2, 7, 16, 30])
def test_the_fixed_set_covers_images_and_schedule_evenly(size):
    (batch,) = stream().evaluation_batches(size)

    assert sorted(batch.timesteps) == [int((i + 0.5) * 1000 / size) for i in range(size)]
    assert not batch.flips.any() and set(batch.prompts) == {"a photo of a <cat-toy>"}
    counts = np.bincount(batch.images, minlength=5)
    assert counts.max() - counts.min() <= 1
    assert_equal(batch, stream().evaluation_batches(size)[0])


def test_the_fixed_set_shows_all_concepts_bucket_by_bucket_in_plain_prompts():
    s = three_of_all_kinds()

    batches = s.evaluation_batches(24)

    assert [b.bucket for b in batches] == [0, 1, 2]
    assert [b.noise.shape[1:] for b in batches] == list(s.latent_shapes)
    assert sorted(t for b in batches for t in b.timesteps) == [int((i + 0.5) * 1000 / 24) for i in range(24)]
    shown = [int(i) for b in batches for i in b.images]
    assert np.bincount([s.images[i].concept for i in shown]).tolist() == [8, 8, 8]
    assert [p for b in batches for p in b.prompts] == [s.images[i].prompts[0] for i in shown]
    assert all(b.vectors is None and not b.flips.any() and (b.crops == 0.5).all() for b in batches)


def test_concepts_take_turns_whatever_their_number_of_images():
    s = stream(images=images_of(2, 5, 1), global_batch=4)

    shown = [s.image_of(step, index) for step in range(30) for index in range(4)]

    assert [s.images[i].concept for i in shown] == [0, 1, 2] * 40
    second = [i for i in shown if s.images[i].concept == 1]
    assert all(sorted(second[i : i + 5]) == [2, 3, 4, 5, 6] for i in range(0, 40, 5))
    for prompt, image in zip(s.batch(0, range(4)).prompts, s.batch(0, range(4)).images, strict=True):
        assert prompt in s.images[image].prompts


def repeated(*repeats, buckets=None, concepts=None) -> tuple[TrainingImage, ...]:
    """Images that are seen more or less often."""
    return tuple(
        TrainingImage(concepts[i] if concepts else 0, ("a",), buckets[i] if buckets else 0, n)
        for i, n in enumerate(repeats)
    )


def test_in_every_cycle_an_image_stands_as_often_as_its_repeats_say():
    s = stream(images=repeated(10, 30, 20), global_batch=6)

    cycles = [[s.image_of(step, index) for index in range(6)] for step in range(20)]

    assert all(sorted(cycle) == [0, 1, 1, 1, 2, 2] for cycle in cycles) and len(set(map(tuple, cycles))) > 10


def test_equal_repeats_change_no_sample():
    plain, tenfold = (stream(images=repeated(*[n] * 5), global_batch=4) for n in (1, 10))

    for step in range(6):
        assert_equal(plain.batch(step, range(4)), tenfold.batch(step, range(4)))


def test_repeats_weigh_within_a_concept_and_in_buckets_too():
    images = repeated(1, 3, 100, 100, buckets=(0, 1, 0, 1), concepts=(0, 0, 1, 1))
    s = stream(images=images, global_batch=8, latent_shapes=((4, 2, 2), (4, 2, 4)))

    shown = np.bincount([s.image_of(step, index) for step in range(500) for index in range(8)]) / 4000

    np.testing.assert_allclose(shown, [0.125, 0.375, 0.25, 0.25], atol=0.01)


@pytest.mark.parametrize(("world_size", "accumulation"), [(1, 4), (2, 2), (4, 1)])
def test_with_repeats_how_a_global_batch_is_cut_changes_nothing_either(world_size, accumulation):
    check_cut(lambda: stream(images=repeated(2, 5, 1), global_batch=8), world_size, accumulation)


def test_the_fixed_set_shows_images_in_turn_whatever_their_repeats():
    (batch,) = stream(images=repeated(2, 5, 1)).evaluation_batches(6)

    assert list(batch.images) == [0, 1, 2, 0, 1, 2]


def test_a_concept_alone_and_the_first_of_several_have_orders_of_their_own():
    alone, several = stream(), stream(images=images_of(5, 5))

    firsts = [several.image_of(step, index) for step in range(10) for index in range(0, 8, 2)]
    seconds = [several.image_of(step, index) - 5 for step in range(10) for index in range(1, 8, 2)]

    assert firsts == [alone.image_of(0, index) for index in range(40)]
    assert seconds != firsts


@pytest.mark.slow
def test_a_global_batch_comes_from_one_bucket_and_shares_stay_equal():
    s = three_of_all_kinds()

    steps = [[s.image_of(step, index) for index in range(8)] for step in range(4000)]

    assert all(len({s.images[i].bucket for i in step}) == 1 for step in steps)
    assert [s.images[step[0]].bucket for step in steps] == [s.bucket_of(i) for i in range(4000)]
    shares = np.bincount(np.concatenate(steps), minlength=8) / 32000
    np.testing.assert_allclose(shares, [1 / 6] * 2 + [1 / 15] * 5 + [1 / 3], atol=0.004)


def test_buckets_follow_each_other_evenly_in_an_order_that_the_seed_decides():
    orders = [[three_of_all_kinds(seed=seed).bucket_of(step) for step in range(60)] for seed in range(4)]

    for order in orders:  # shares of the buckets: 1/6 + 2/15, 1/6 + 2/15, 1/15 + 1/3
        np.testing.assert_allclose(np.bincount(order), [18, 18, 24], atol=1.5)
    assert len(set(map(tuple, orders))) > 1


def test_a_bucket_without_images_is_never_taken():
    s = stream(images=images_of(3, buckets=(0, 2, 2)), latent_shapes=((4, 3, 2),) * 4)

    assert {s.bucket_of(step) for step in range(100)} == {0, 2}


def test_the_concepts_of_a_step_are_those_of_its_samples():
    for s in (stream(images=images_of(2, 5, 1), global_batch=2), three_of_all_kinds(global_batch=2), stream()):
        for step in range(20):
            shown = {s.images[i].concept for i in s.batch(step, range(s.global_batch)).images}

            assert s.concepts_in(step) == shown


def test_vectors_vary_by_sample_from_numbers_of_their_own():
    plain, varied = stream(), stream(vary=lambda g, step: {"<cat-toy>": (int(g.integers(1000)), step)})

    batch = varied.batch(3, range(8))

    chosen = [choice["<cat-toy>"] for choice in batch.vectors]
    assert len(set(chosen)) > 4 and {step for _, step in chosen} == {3}
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(batch, name), getattr(plain.batch(3, range(8)), name))
    assert plain.batch(3, [0]).vectors is None


def test_purposes_have_streams_of_their_own():
    draws = [generator(1, purpose).standard_normal() for purpose in Purpose]

    assert len(set(draws)) == len(Purpose)


def test_prompts_are_taken_as_they_are():
    s = stream(images=(TrainingImage(0, ("<a{}b> with {braces}",)),))

    assert s.batch(0, [0]).prompts == ["<a{}b> with {braces}"]


def spread(**changes) -> SampleStream:
    return stream(stratified=True, **changes)


def of_all_kinds_spread(**changes) -> SampleStream:
    return three_of_all_kinds(stratified=True, antithetic=True, **changes)


@pytest.mark.parametrize("make", [spread, of_all_kinds_spread, lambda: stream(antithetic=True, images=images_of(3, 2))])
@pytest.mark.parametrize(("world_size", "accumulation"), [(1, 4), (2, 2), (4, 1), (8, 1)])
def test_strata_and_pairs_do_not_depend_on_the_cut(make, world_size, accumulation):
    check_cut(make, world_size, accumulation)


@pytest.mark.parametrize(("bounds", "size"), [(None, 8), ((100, 900), 7), ((10, 13), 6)])
def test_a_global_batch_meets_every_stratum_once(bounds, size):
    low, high = bounds or (0, 1000)
    for step in range(40):
        timesteps = spread(global_batch=size, timestep_range=bounds).batch(step, range(size)).timesteps

        assert (low <= timesteps).all() and (timesteps < high).all()
        edges = low + np.arange(size + 1) * (high - low) / size
        for i, timestep in enumerate(np.sort(timesteps)):  # a timestep across an edge may belong to either side
            assert np.floor(edges[i]) <= timestep <= edges[i + 1]


def test_a_sample_of_a_stratified_batch_is_uniform_by_itself():
    timesteps = np.array([spread(global_batch=4).batch(step, [1]).timesteps[0] for step in range(3000)])

    counts = np.histogram(timesteps, bins=10, range=(0, 1000))[0]
    assert (abs(counts - 300) < 5 * 300**0.5).all()  # five deviations
    assert abs(timesteps.mean() - 499.5) < 5 * 288.7 / 3000**0.5


def test_strata_come_in_another_order_in_every_step():
    orders = {tuple(np.argsort(spread().batch(step, range(8)).timesteps)) for step in range(20)}

    assert len(orders) == 20


def test_stratified_timesteps_move_no_other_number():
    plain, other = stream().batch(3, range(8)), spread().batch(3, range(8))

    for name in set(ARRAYS) - {"timesteps"}:
        np.testing.assert_array_equal(getattr(plain, name), getattr(other, name))
    assert plain.prompts == other.prompts and (plain.timesteps != other.timesteps).any()


def test_pairs_have_opposite_noise_at_one_timestep_and_images_of_their_own():
    plain, paired = (stream(antithetic=on, global_batch=9).batch(2, range(9)) for on in (False, True))

    np.testing.assert_array_equal(paired.noise[1:8:2], -paired.noise[0:8:2])
    np.testing.assert_array_equal(paired.offset_noise[1:8:2], -paired.offset_noise[0:8:2])
    np.testing.assert_array_equal(paired.timesteps[1:8:2], paired.timesteps[0:8:2])
    for name in (
        "noise",
        "timesteps",
        "offset_noise",
    ):  # and the first of each, and the one without partner, is as ever
        np.testing.assert_array_equal(getattr(paired, name)[::2], getattr(plain, name)[::2])
    for name in ("images", "flips", "crops", "posterior_noise", "perturbation"):
        np.testing.assert_array_equal(getattr(paired, name), getattr(plain, name))


def test_pairs_show_the_same_concept():
    s = stream(images=images_of(3, 2), antithetic=True)
    for step in range(4):
        batch = s.batch(step, range(8))
        for first, second in ((0, 2), (1, 3), (4, 6), (5, 7)):
            np.testing.assert_array_equal(batch.noise[first], -batch.noise[second])
            assert s.images[batch.images[first]].concept == s.images[batch.images[second]].concept


def test_a_pair_shares_a_stratum_and_pairs_do_not():
    for step in range(20):
        timesteps = stream(antithetic=True, stratified=True).batch(step, range(8)).timesteps

        assert (timesteps[0::2] == timesteps[1::2]).all()
        assert sorted(timesteps[0::2] * 4 // 1000) == [0, 1, 2, 3]


def test_evaluation_is_the_same_however_training_samples_are_drawn():
    for one, other in zip(stream().evaluation_batches(6), spread(antithetic=True).evaluation_batches(6), strict=True):
        assert_equal(one, other)


# ------------------------------------------------------------------------------------------------------------ growth


@pytest.fixture
def work(monkeypatch):
    """Random generators that were made, and numbers that were brought into an order, since the last `clear`."""
    counted = []

    class Counting:
        def __init__(self, *args, **options):
            self._generator = generator(*args, **options)
            counted.append(1)

        def permutation(self, size):
            counted.append(size if isinstance(size, int) else len(size))
            return self._generator.permutation(size)

        def __getattr__(self, name):
            return getattr(self._generator, name)

    for module in (random_streams, sampler, timesteps, image_order):
        monkeypatch.setattr(module, "generator", Counting)
    return counted


@pytest.mark.parametrize("buckets", [1, 3])
@pytest.mark.parametrize("concepts", [1, 50])  # more than the orders that are kept
def test_a_sample_costs_the_same_in_a_small_and_in_a_large_global_batch(work, concepts, buckets):
    images = tuple(TrainingImage(n % concepts, ("a photo of a toy",), n % buckets) for n in range(150))

    def cost(global_batch):
        random_streams.permutation.cache_clear()
        samples = stream(images=images, latent_shapes=((1, 1, 1),) * buckets, global_batch=global_batch,
                         stratified=True, antithetic=True)  # fmt: skip
        work.clear()
        for batch in samples.micro_batches(3, accumulation=global_batch // 8):
            assert len(batch.prompts) == 8
        samples.concepts_in(3)
        return sum(work) / global_batch

    assert cost(1024) <= 1.25 * cost(64)


def test_the_image_of_a_sample_is_found_without_a_look_at_all_others(monkeypatch):
    sums, cumsum = [], np.cumsum
    monkeypatch.setattr(image_order.np, "cumsum", lambda values: sums.append(len(values)) or cumsum(values))
    images = tuple(TrainingImage(0, ("a toy",), n % 2) for n in range(1000))
    samples = stream(images=images, latent_shapes=((1, 1, 1),) * 2, global_batch=64)

    for step in range(20):
        samples.concepts_in(step)

    assert sum(sums) == 2 + 500 + 500


@pytest.mark.parametrize("each", [1, 4, 6])
def test_every_image_is_compared_at_the_same_noisy_timesteps_with_the_same_noise(each):
    s = three_of_all_kinds(flip_p=1.0)

    batches = s.image_batches(each)

    shown = [int(image) for batch in batches for image in batch.images]
    assert sorted(shown) == sorted(list(range(len(s.images))) * each)
    for batch in batches:
        assert not batch.flips.any() and batch.bucket == s.images[batch.images[0]].bucket
        rows = batch.timesteps.reshape(-1, each)
        assert (rows == rows[0]).all() and (np.diff(rows[0]) > 0).all() and rows.min() >= 500
        noises = batch.noise.reshape(-1, each, *batch.noise.shape[1:])
        assert (noises == noises[0]).all() and len({noise.tobytes() for noise in noises[0]}) == each
        assert batch.prompts == [s.images[image].prompts[0] for image in batch.images]
    assert not np.array_equal(batches[0].noise[0], s.evaluation_batches(8)[0].noise[0])


def test_variants_are_a_function_of_the_sample_alone_evenly_drawn_and_change_nothing_else():
    varied, plain = stream(variants=4), stream()

    whole = varied.batch(3, range(8))
    parts = [varied.batch(3, [index]).variants[0] for index in range(8)]
    drawn = np.concatenate([varied.batch(step, range(8)).variants for step in range(200)])

    assert whole.variants.tolist() == parts
    assert np.abs(np.bincount(drawn, minlength=4) / len(drawn) - 0.25).max() < 0.03
    assert plain.batch(3, range(8)).variants is None and plain.batch(3, range(8)).drawn_variants.tolist() == [0] * 8
    for name in ("images", "flips", "noise", "posterior_noise", "timesteps", "crops"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(plain.batch(3, range(8)), name))


def test_the_fixed_set_shows_the_images_themselves():
    assert all(batch.variants is None for batch in stream(variants=4).evaluation_batches(8))


# ---------------------------------------------------------------------------------------- noise of several resolutions
COARSER = MultiresolutionNoise(6, 0.8)


@pytest.mark.parametrize("antithetic", [False, True])
def test_coarser_noises_are_the_samples_own_and_change_nothing_else(antithetic):
    plain, coarser = (
        stream(antithetic=antithetic, multiresolution=kind).batch(3, range(8)) for kind in (None, COARSER)
    )
    for name in ARRAYS:
        assert np.array_equal(getattr(plain, name), getattr(coarser, name)) == (name != "noise"), name
    first = coarser.noise[0]
    wanted = COARSER.added_to(plain.noise[0], generator(7, Purpose.MULTIRESOLUTION, step=3, index=0))
    np.testing.assert_array_equal(first, wanted)
    np.testing.assert_array_equal(stream(antithetic=antithetic, multiresolution=COARSER).batch(3, [5]).noise[0],
                                  coarser.noise[5])  # fmt: skip
    assert np.array_equal(coarser.noise[1], -first) == antithetic


def test_the_fixed_set_has_plain_noise():
    plain, coarser = (stream(multiresolution=kind).evaluation_batches(6) for kind in (None, COARSER))
    for one, other in zip(plain, coarser, strict=True):
        np.testing.assert_array_equal(one.noise, other.noise)
