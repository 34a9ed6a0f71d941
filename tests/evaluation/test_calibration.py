from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from rwkv_edge.evaluation.calibration import Reliability, draw_reliability


def test_by_hand() -> None:
    """Ten pixels of 0.9 of which five are lesion, thirty of 0.1 of which none is."""
    probability = np.repeat(np.float32([0.9, 0.1]), [10, 30]).reshape(4, 10)
    truth = np.zeros(40, bool)
    truth[:5] = True
    found = Reliability.of(probability, truth.reshape(4, 10))
    assert found.error == pytest.approx((10 * 0.4 + 30 * 0.1) / 40)
    predicted, observed = found.curve()
    assert predicted == pytest.approx([0.1, 0.9])
    assert observed == pytest.approx([0, 0.5])


def test_honest_and_boastful(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    probability = rng.random((300, 300)).astype(np.float32)
    truth = rng.random((300, 300)) < probability
    honest = Reliability.of(probability, truth)
    assert honest.error < 0.01
    boastful = Reliability.of((probability > 0.5).astype(np.float32), truth)
    assert boastful.error == pytest.approx(0.25, abs=0.01)
    half = Reliability.of(probability[:150], truth[:150]) + Reliability.of(
        probability[150:], truth[150:]
    )
    assert half.error == pytest.approx(honest.error, abs=1e-6)
    draw_reliability(tmp_path / "a.png", honest)
    assert cv2.imread(str(tmp_path / "a.png")).std() > 5


def test_ends_of_the_range() -> None:
    found = Reliability.of(np.float32([[0, 1]]), np.array([[False, True]]))
    assert found.error == 0
    assert found.pixels[[0, -1]].tolist() == [1, 1]
