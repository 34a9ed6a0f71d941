"""The figures that polyp papers report for probability maps: S-measure, E-measure, weighted F.

Written from the papers. A map is taken as it is, in 0..1: stretching it to its own minimum and
maximum, as some evaluation scripts do, hides a model that is never sure.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from rwkv_edge.preprocess import FloatArray

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
_EPS = float(np.spacing(1.0))
_LEVELS = 256


def mean_absolute_error(probability: FloatArray, truth: BoolArray) -> float:
    """Mean of |probability - truth| over the pixels (h, w)."""
    return float(np.abs(probability - truth).mean(dtype=np.float64))


def s_measure(probability: FloatArray, truth: BoolArray) -> float:
    """Structure measure (Fan et al., ICCV 2017), alpha 0.5: half objects, half regions, in 0..1.

    Without a lesion it is 1 - mean(probability).
    """
    p = probability.astype(np.float64)
    share = float(truth.mean())
    if share == 0:
        return 1 - float(p.mean())
    if share == 1:
        return float(p.mean())
    objects = share * _object_score(p[truth]) + (1 - share) * _object_score(1 - p[~truth])
    return max(0.0, 0.5 * objects + 0.5 * _region_score(p, truth))


def _object_score(values: Array) -> float:
    """High where a region's values are near 1 and alike."""
    mean = float(values.mean())
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return 2 * mean / (mean**2 + 1 + spread + _EPS)


def _region_score(p: Array, truth: BoolArray) -> float:
    """Structural similarity of the four quarters around the lesion's centroid, by area."""
    rows, columns = np.nonzero(truth)
    # one further, as in the authors' MATLAB: the centroid's row and column belong to the upper left
    y, x = int(np.round(rows.mean())) + 1, int(np.round(columns.mean())) + 1
    score = 0.0
    for vertical in (slice(0, y), slice(y, None)):
        for horizontal in (slice(0, x), slice(x, None)):
            part = truth[vertical, horizontal]
            if part.size:
                score += part.size / truth.size * _similarity(p[vertical, horizontal], part)
    return score


def _similarity(p: Array, truth: BoolArray) -> float:
    t = truth.astype(np.float64)
    x, y = p.mean(), t.mean()
    freedom = p.size - 1 + _EPS
    variances = (((p - x) ** 2).sum() + ((t - y) ** 2).sum()) / freedom
    covariance = ((p - x) * (t - y)).sum() / freedom
    above, below = 4 * x * y * covariance, (x**2 + y**2) * variances
    if above == 0:
        return float(below == 0)
    return float(above / (below + _EPS))


def e_measure(probability: FloatArray, truth: BoolArray) -> float:
    """Enhanced-alignment measure (Fan et al., IJCAI 2018), mean over 256 thresholds, in 0..1.

    The alignment of a pixel depends only on whether prediction and truth have it, so four counts a
    threshold, from two histograms, are all it takes.
    """
    level = (probability * np.float32(_LEVELS - 1)).astype(np.uint8)
    size, lesion = truth.size, int(np.count_nonzero(truth))
    # pixels at or above each threshold, inside the lesion and outside
    hit = np.bincount(level[truth], minlength=_LEVELS)[::-1].cumsum()
    false = np.bincount(level[~truth], minlength=_LEVELS)[::-1].cumsum()
    found = hit + false
    if lesion == 0:
        return float(((size - found) / (size - 1 + _EPS)).mean())
    if lesion == size:
        return float((found / (size - 1 + _EPS)).mean())
    share_found, share = found / size, lesion / size
    total = np.zeros(_LEVELS)
    for predicted, there, pixels in (
        (1, 1, hit),
        (1, 0, false),
        (0, 1, lesion - hit),
        (0, 0, size - lesion - false),
    ):
        a, b = predicted - share_found, there - share
        alignment = 2 * a * b / (a**2 + b**2 + _EPS)
        total += pixels * (alignment + 1) ** 2 / 4
    return float((total / (size - 1 + _EPS)).mean())


def weighted_f_measure(probability: FloatArray, truth: BoolArray) -> float:
    """Weighted F-measure (Margolin et al., CVPR 2014), beta 1, in 0..1; NaN without a lesion.

    Errors beside the lesion weigh less than far ones, and errors inside it less where its
    neighbours are right. Needs scipy.
    """
    from scipy.ndimage import distance_transform_edt

    if not truth.any():
        return float("nan")
    error = np.abs(probability.astype(np.float64) - truth)
    distance, (rows, columns) = distance_transform_edt(~truth, return_indices=True)
    nearest = error[rows, columns]  # of a pixel of the lesion: its own
    kernel = cv2.getGaussianKernel(7, 5)
    smooth = cv2.sepFilter2D(nearest, -1, kernel, kernel, borderType=cv2.BORDER_CONSTANT)
    weighed = np.where(truth & (smooth < error), smooth, error)
    weighed *= np.where(truth, 1.0, 2 - 0.5 ** (distance / 5))
    inside, outside = weighed[truth], float(weighed[~truth].sum())
    hit = inside.size - float(inside.sum())
    recall, precision = 1 - float(inside.mean()), hit / (hit + outside + _EPS)
    return 2 * recall * precision / (recall + precision + _EPS)
