"""The figures against those of pysodmetrics 1.6.2, called with normalize=False on the same maps.

That package is not installed here: it forbids the numpy and OpenCV that this project uses.
"""

from __future__ import annotations

import numpy as np
import pytest

from rwkv_edge.evaluation.saliency import (
    BoolArray,
    e_measure,
    mean_absolute_error,
    s_measure,
    weighted_f_measure,
)
from rwkv_edge.preprocess import FloatArray

Y, X = np.mgrid[:40, :56]
TRUTHS = {
    "disc": (Y - 18) ** 2 + (X - 30) ** 2 < 100,
    "two": ((Y - 10) ** 2 + (X - 12) ** 2 < 36) | ((Y - 30) ** 2 + (X - 44) ** 2 < 25),
    "edge": X > 40,
    "none": X < 0,
}
REFERENCE = {
    "disc": (0.13725279215355338, 0.7926269715228698, 0.633444503318619, 0.47685824984328534),
    "two": (0.22448015737639265, 0.3813054337121291, 0.5440637180855044, 0.03920804065112136),
    "edge": (0.40510035291262136, 0.22702620558927222, 0.39483494300690725, 0.12494801651967179),
    "none": (0.15799772338819526, 0.8420022766118047, 0.8408887896382313, np.nan),
}


def blurred_disc() -> FloatArray:
    """Never surer than 0.92, so that stretching it to its own range would show."""
    smooth = 1 / (1 + np.exp((np.hypot(Y - 20, X - 27) - 9) / 3))
    return (smooth * 0.9 + 0.02 + 0.05 * np.sin(X / 3) * np.cos(Y / 5)).clip(0, 1)


def all_of(probability: FloatArray, truth: BoolArray) -> tuple[float, ...]:
    measures = (mean_absolute_error, s_measure, e_measure, weighted_f_measure)
    return tuple(measure(probability, truth) for measure in measures)


@pytest.mark.parametrize("name", TRUTHS)
def test_like_pysodmetrics(name: str) -> None:
    found = all_of(blurred_disc(), TRUTHS[name])
    assert found == pytest.approx(REFERENCE[name], rel=1e-9, nan_ok=True)


def test_float32_maps_of_odd_shape() -> None:
    truth = TRUTHS["disc"][:37, :53]
    maps = blurred_disc()[:37, :53]
    assert all_of(maps.astype(np.float32), truth) == pytest.approx(all_of(maps, truth), abs=1e-2)


def test_perfect_and_opposite() -> None:
    truth = TRUTHS["two"]
    perfect = truth.astype(np.float32)
    assert mean_absolute_error(perfect, truth) == 0
    assert s_measure(perfect, truth) == pytest.approx(1)
    # nothing is above the highest threshold but the lesion, everything above the lowest, 0
    assert e_measure(perfect, truth) == pytest.approx(1, abs=0.01)
    assert weighted_f_measure(perfect, truth) == pytest.approx(1)
    assert mean_absolute_error(1 - perfect, truth) == 1
    assert s_measure(1 - perfect, truth) < 0.2
    assert weighted_f_measure(1 - perfect, truth) == pytest.approx(0, abs=1e-6)


def test_lesion_everywhere() -> None:
    truth = np.ones((8, 9), bool)
    half = np.full((8, 9), 0.5, np.float32)
    assert s_measure(half, truth) == 0.5
    assert e_measure(half, truth) == pytest.approx(128 / 256 * 72 / 71)
