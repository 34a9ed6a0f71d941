from __future__ import annotations

import numpy as np
import pytest

from rwkv_edge.video.base import Frame
from rwkv_edge.video.segmenting import FrameSegmenter
from rwkv_edge.video.smoothing import Smoother, Smoothing

SHAPE = (1, 32, 32)


def view(level: int) -> np.ndarray:
    return np.full((32, 32, 3), level, np.uint8)


def flat(value: float) -> np.ndarray:
    return np.full(SHAPE, value, np.float32)


def test_a_still_view_is_averaged() -> None:
    smoother = Smoother(Smoothing(weight=0.5))
    smoother.average(view(100), flat(0.0))
    assert smoother.average(view(101), flat(0.8)).max() == pytest.approx(0.4)
    assert smoother.average(view(100), flat(0.8)).max() == pytest.approx(0.6)


def test_motion_forgets_the_past() -> None:
    smoother = Smoother(Smoothing(weight=0.5))
    smoother.average(view(100), flat(0.0))
    assert smoother.average(view(150), flat(0.8)).min() == pytest.approx(0.8)
    assert not smoother.still


def test_nothing_is_carried_over_an_outage() -> None:
    """The view after it may look alike and be another one."""
    surest = iter((0.97, 0.97, 0.08, 0.08))
    segment = FrameSegmenter(
        lambda image: np.full((1, 1, 32, 32), next(surest), np.float32),
        (32, 32),
        ["polyp"],
        smoothing=Smoothing(),
    )
    image = np.full((32, 32, 3), 90, np.uint8)
    found = [
        segment(Frame(index, 0.0, image, "f", captured), {}).mask.any()
        for index, captured in enumerate((10.0, 10.04, 70.0, 70.04))
    ]
    assert found == [True, True, False, False]


def test_hysteresis_keeps_a_class_a_little_longer() -> None:
    smoother = Smoother(Smoothing(weight=1.0, hysteresis=0.1))
    shown = []
    for value in (0.45, 0.55, 0.45, 0.35, 0.45):
        probability = smoother.average(view(100), flat(value))
        shown.append(int(smoother.mask(probability, 0.5)[0, 0]))
    assert shown == [0, 1, 1, 0, 0]


def test_a_low_threshold_lets_go_too() -> None:
    smoother = Smoother(Smoothing(weight=1.0, hysteresis=0.1))
    shown = []
    for value in (0.9, 0.06, 0.04, 0.0):
        probability = smoother.average(view(100), flat(value))
        shown.append(int(smoother.mask(probability, 0.1)[0, 0]))
    assert shown == [1, 1, 0, 0]


def test_without_smoothing_nothing_changes() -> None:
    smoother = Smoother()
    rng = np.random.default_rng(0)
    for _ in range(5):
        probability = rng.uniform(size=SHAPE).astype(np.float32)
        assert smoother.average(view(100), probability) is probability
        np.testing.assert_array_equal(smoother.mask(probability, 0.5), probability[0] >= 0.5)


def test_flicker_is_the_share_of_pixels_that_change_in_a_still_view() -> None:
    smoother = Smoother()
    half = flat(0.0)
    half[0, :16] = 1.0
    assert smoother.flicker is None
    for probability, level in ((flat(0.0), 100), (half, 100), (half, 100), (flat(0.0), 200)):
        smoother.mask(smoother.average(view(level), probability), 0.5)
    assert smoother.flicker == pytest.approx(0.25)  # half of them, then none; the last view moved


def test_noise_flickers_less_when_smoothed() -> None:
    rng = np.random.default_rng(1)
    series = [rng.normal(0.5, 0.1, SHAPE).clip(0, 1).astype(np.float32) for _ in range(40)]
    flicker = []
    for smoothing in (None, Smoothing()):
        smoother = Smoother(smoothing)
        for probability in series:
            smoother.mask(smoother.average(view(100), probability), 0.5)
        flicker.append(smoother.flicker)
    assert flicker[0] is not None
    assert flicker[1] is not None
    assert flicker[1] < 0.5 * flicker[0]


def test_several_classes() -> None:
    smoother = Smoother(Smoothing(weight=1.0, hysteresis=0.2))
    output = np.zeros((3, 32, 32), np.float32)
    for background, polyp, tool, expected in (
        (0.2, 0.7, 0.1, 1),
        (0.3, 0.4, 0.3, 1),  # below the threshold, within the hysteresis
        (0.1, 0.3, 0.6, 2),
        (0.6, 0.2, 0.2, 0),
    ):
        output[:] = np.array([background, polyp, tool], np.float32)[:, None, None]
        mask = smoother.mask(smoother.average(view(100), output), 0.5)
        assert (mask == expected).all()
