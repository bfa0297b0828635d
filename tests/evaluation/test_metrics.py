"""Means of cosines, against loops."""

import numpy as np
import pytest

from textual_inversion.evaluation import metrics


def features(n, seed, width=5):
    array = np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def test_mean_cosine_is_the_mean_over_all_pairs():
    first, second = features(3, 0), features(4, 1)

    pairs = [float(a @ b) for a in first for b in second]

    assert metrics.mean_cosine(first, second) == pytest.approx(np.mean(pairs), abs=1e-6)


def test_mean_cosine_among_leaves_a_feature_with_itself_out():
    own = features(4, 2)

    pairs = [float(own[i] @ own[j]) for i in range(4) for j in range(4) if i != j]

    assert metrics.mean_cosine_among(own) == pytest.approx(np.mean(pairs), abs=1e-6)


def test_equal_features_have_cosine_one():
    own = np.repeat(features(1, 3), 6, axis=0)

    assert metrics.mean_cosine_among(own) == pytest.approx(1.0, abs=1e-6)
    assert metrics.mean_cosine(own, -own) == pytest.approx(-1.0, abs=1e-6)


def test_nothing_to_compare_is_refused():
    with pytest.raises(ValueError, match="no pairs"):
        metrics.mean_cosine(features(0, 0), features(2, 0))
    with pytest.raises(ValueError, match="no pair"):
        metrics.mean_cosine_among(features(1, 0))


@pytest.mark.parametrize(
    ("baseline", "value", "ceiling", "share"),
    [(0.2, 0.2, 0.8, 0.0), (0.2, 0.8, 0.8, 1.0), (0.2, 0.5, 0.8, 0.5), (0.2, 0.1, 0.6, -0.25), (0.8, 0.9, 0.7, None)],
)
def test_share_of_the_way(baseline, value, ceiling, share):
    assert metrics.share_of_the_way(baseline, value, ceiling) == (share if share is None else pytest.approx(share))


def test_ratio_is_undefined_for_a_baseline_that_is_not_positive():
    assert metrics.ratio(0.3, 0.4) == pytest.approx(0.75)
    assert metrics.ratio(0.3, -0.1) is None
