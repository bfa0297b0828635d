"""Antithetic pairs: every sample has one partner of its own concept, whatever the size of the global batch."""

import numpy as np
import pytest

from textual_inversion.data.noise import AntitheticPairs, sample_noise


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
