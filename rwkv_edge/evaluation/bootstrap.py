"""Confidence intervals and paired tests that assume nothing about how scores are distributed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
CONFIDENCE = 0.95
POWER = 0.8
"""Chance of telling two models apart that `images_needed` plans for, as is usual in trials."""
FEWEST = 6
"""Images with which a paired permutation test can fall below 5 %: 2 of 2^6 sign flips."""
_RESAMPLES, _SEED = 2000, 0
_NUMBERS_AT_ONCE = 1 << 22
"""In memory, while drawing."""


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} ({self.low:.4f} to {self.high:.4f})"

    def excludes(self, value: float) -> bool:
        """Whether `value` lies outside."""
        return not self.low <= value <= self.high


def resample_means(columns: Array, seed: int = _SEED) -> Array:
    """Draw images with replacement, as many as there are, and return each draw's column means.

    Whole rows are drawn: what one image scored for two models stays together, which is what makes
    the interval of their difference a paired one.

    Args:
        columns: (images, figures).
        seed: of the draws.

    Returns:
        (draws, figures).
    """
    count, figures = columns.shape
    rng = np.random.default_rng(seed)
    rows = max(1, _NUMBERS_AT_ONCE // (count * figures))
    sizes = [min(rows, _RESAMPLES - start) for start in range(0, _RESAMPLES, rows)]
    drawn = (columns[rng.integers(count, size=(size, count))].mean(1) for size in sizes)
    return np.concatenate(list(drawn))


def interval(columns: Array, figure: Callable[[Array], Array], seed: int = _SEED) -> Interval:
    """Return a figure with its percentile bootstrap interval.

    Args:
        columns: (images, k); what the figure is made of.
        figure: from column means (..., k) to the figure (...). A mean is a column itself, a pooled
            ratio one of two columns; NaN means undefined, and such draws do not count.
        seed: of the draws.
    """
    value = float(figure(columns.mean(0)))
    drawn = figure(resample_means(columns, seed))
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return Interval(value, value, value)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(drawn, (tail, 100 - tail))
    return Interval(value, float(low), float(high))


def mean_interval(values: Array, seed: int = _SEED) -> Interval:
    """Return the mean of the values that are not NaN, with its interval."""
    known = values[~np.isnan(values)]
    if not len(known):
        return Interval(np.nan, np.nan, np.nan)
    return interval(known[:, None], lambda means: means[..., 0], seed)


def permutation_p(differences: Array, draws: int = 10_000, seed: int = _SEED) -> float:
    """Return the two-sided p-value of a paired permutation test on the mean difference.

    If the two models were alike, each image's difference could as well have the other sign: the
    p-value is the share of random sign flips whose mean is at least as far from 0. The observed
    signs count as one of the flips, so that it is never 0.
    """
    rng = np.random.default_rng(seed)
    observed = abs(differences.sum())
    at_least = 0
    rows = max(1, _NUMBERS_AT_ONCE // len(differences))
    for start in range(0, draws, rows):
        shape = (min(rows, draws - start), len(differences))
        sums = np.abs(np.where(rng.random(shape) < 0.5, -1.0, 1.0) @ differences)
        # sums of the same numbers in another order differ in their last digits
        at_least += int(np.count_nonzero(sums >= observed * (1 - 1e-9)))
    return (at_least + 1) / (draws + 1)


def images_needed(differences: Array) -> int | None:
    """Return how many images would tell the two apart, if they differ as much as they seem to.

    The sample size of a paired t-test at 5 % significance and 80 % power, by the normal
    approximation with its correction for few images (Guenther, The American Statistician 1981),

        n = ((z(0.975) + z(0.8)) * s / d)^2 + z(0.975)^2 / 2 = 7.85 * (s / d)^2 + 1.92,

    with d the mean of the differences and s their standard deviation, but no fewer than the sign
    flips of `permutation_p` need to fall below 5 %. A plan, not a promise: d itself is uncertain
    here. None if there is no difference at all, which no number would show, or a single one.
    """
    if len(differences) < 2 or differences.mean() == 0:
        return None
    ratio = float(differences.std(ddof=1) / differences.mean())
    z, power = NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / 2), NormalDist().inv_cdf(POWER)
    return max(FEWEST, ceil(((z + power) * ratio) ** 2 + z**2 / 2))
