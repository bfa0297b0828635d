"""Antithetic pairs: every sample has one partner of its own concept, whatever the size of the global batch."""

import numpy as np
import pytest

from textual_inversion.data.noise import AntitheticPairs, MultiresolutionNoise, sample_noise, standard_normal


@pytest.mark.parametrize("num_concepts", [1, 2, 3])
@pytest.mark.parametrize("global_batch", range(1, 20))
def test_pairs_are_numbered_without_gaps_and_hold_two_samples_of_a_concept(num_concepts, global_batch):
    pairs, members = AntitheticPairs(num_concepts), {}
    for index in range(global_batch):
        members.setdefault(pairs.number_of(index), []).append(index)

    assert sorted(members) == list(range(pairs.count(global_batch)))
    for first, *second in members.values():
        assert pairs.first_of(first) is None
        assert second in ([], [first + num_concepts]) and all(pairs.first_of(index) == first for index in second)


def test_the_noise_of_a_sample_has_the_shape_of_its_latents():
    posterior, noise, offset = sample_noise(np.random.default_rng(0), (4, 3, 2))

    assert [array.shape for array in (posterior, noise, offset)] == [(4, 3, 2), (4, 3, 2), (4, 1, 1)]
    assert {array.dtype for array in (posterior, noise, offset)} == {np.dtype("float32")}


@pytest.mark.parametrize("shape", [(4, 8, 8), (4, 16, 12), (1, 5, 40)])
@pytest.mark.parametrize(("iterations", "discount"), [(1, 0.3), (3, 0.8), (6, 1.0), (10, 0.0)])
def test_multiresolution_noise_is_its_formula(shape, iterations, discount):
    """With Paddle's own bilinear interpolation in place of this project's."""
    import paddle

    noise = standard_normal(np.random.default_rng(1), shape)
    total, g = noise.astype("float64"), np.random.default_rng(2)
    for i in range(iterations):
        r = 2 + 2 * g.random()
        size = [max(1, int(side / r**i)) for side in shape[1:]]
        coarse = paddle.to_tensor(standard_normal(g, (shape[0], *size)))[None]
        enlarged = paddle.nn.functional.interpolate(coarse, size=shape[1:], mode="bilinear", align_corners=False)[0]
        total = total + discount**i * enlarged.numpy()
        if 1 in size:
            break

    found = MultiresolutionNoise(iterations, discount).added_to(noise, np.random.default_rng(2))

    assert found.dtype == np.float32 and found.std(ddof=1) == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(found, total / total.std(ddof=1), atol=1e-5)


def test_coarser_noises_shift_whole_areas():
    plain = standard_normal(np.random.default_rng(1), (500, 16, 16))
    shifted = np.stack([MultiresolutionNoise(6, 0.8).added_to(one[None], np.random.default_rng(i))
                        for i, one in enumerate(plain)])[:, 0]  # fmt: skip

    assert shifted.mean(axis=(1, 2)).std() > 3 * plain.mean(axis=(1, 2)).std()
