from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from rwkv_edge.evaluation.bootstrap import (
    images_needed,
    interval,
    mean_interval,
    permutation_p,
)


def test_like_scipy() -> None:
    values = np.random.default_rng(0).beta(5, 1, 80)
    ours = mean_interval(values)
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(1)
    ).confidence_interval
    assert ours.value == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.004)
    assert mean_interval(values) == ours  # seeded


def test_covers_the_truth() -> None:
    """Of 100 samples, about 95 intervals hold the mean that the samples were drawn from."""
    rng = np.random.default_rng(2)
    samples = (mean_interval(rng.normal(0.7, 0.2, 40), seed=i) for i in range(100))
    assert 88 <= sum(not found.excludes(0.7) for found in samples) <= 99


def test_undefined_values() -> None:
    assert mean_interval(np.array([1.0, np.nan, 3.0])).value == 2
    assert np.isnan(mean_interval(np.array([np.nan])).value)
    single = mean_interval(np.array([0.4]))
    assert (single.value, single.low, single.high) == (0.4, 0.4, 0.4)
    # one of two images has a lesion: a quarter of the draws hold none, and do not count
    columns = np.array([[1.0, 1.0], [0.0, 0.0]])
    with np.errstate(invalid="ignore"):
        found = interval(columns, lambda means: means[..., 0] / means[..., 1])
    assert (found.value, found.low, found.high) == (1, 1, 1)


def test_permutation_against_every_flip() -> None:
    differences = np.array([0.3, -0.1, 0.25, 0.4, 0.05, 0.2, -0.02, 0.31])
    flips = [abs(differences @ signs) for signs in itertools.product((-1, 1), repeat=8)]
    exact = np.mean(np.array(flips) >= abs(differences.sum()) - 1e-12)
    assert permutation_p(differences) == pytest.approx(exact, abs=0.01)


def test_permutation_extremes() -> None:
    assert permutation_p(np.zeros(10)) == 1
    assert permutation_p(np.full(40, 0.1)) == pytest.approx(1 / 10_001)
    assert permutation_p(np.array([0.5])) == 1  # one image says nothing


def test_images_needed() -> None:
    """Half a standard deviation takes 31.4 + 1.9 by this formula, and 34 by tables of t."""
    differences = np.array([-0.5, 1.5])
    differences = (differences - differences.mean()) / differences.std(ddof=1) + 0.5
    assert images_needed(differences) == 34
    assert images_needed(np.zeros(5)) is None
    assert images_needed(np.array([0.5])) is None  # one image says nothing of others
    few = images_needed(np.array([0.5, 0.5, 0.501]))
    assert few == 6
    assert permutation_p(np.full(few, 0.5)) < 0.05 < permutation_p(np.full(few - 1, 0.5))
    found = images_needed(np.random.default_rng(0).normal(0.2, 1, 200_000))
    assert found is not None
    power = stats.ttest_1samp(
        np.random.default_rng(1).normal(0.2, 1, (found, 2000)), 0, axis=0
    ).pvalue
    assert np.mean(power < 0.05) == pytest.approx(0.8, abs=0.03)
