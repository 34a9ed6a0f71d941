from __future__ import annotations

import numpy as np
import pytest

from rwkv_edge.metrics import PixelCounts


def counts(predicted: list[int], target: list[int]) -> PixelCounts:
    return PixelCounts.of(np.array(predicted, bool), np.array(target, bool))


def test_by_hand() -> None:
    result = counts([1, 1, 1, 0, 0, 0, 0, 0], [1, 0, 0, 1, 0, 0, 0, 0])
    assert result == PixelCounts(1, 2, 1, 4)
    assert result.dice == pytest.approx(2 / 5)
    assert result.iou == pytest.approx(1 / 4)
    assert result.precision == pytest.approx(1 / 3)
    assert result.recall == pytest.approx(1 / 2)
    assert result.false_positive_rate == pytest.approx(2 / 6)


def test_against_definitions_on_random_masks() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        predicted, target = rng.random((2, 17, 23)) < rng.random((2, 1, 1))
        result = PixelCounts.of(predicted, target)
        both, either = predicted & target, predicted | target
        assert result.dice == pytest.approx(2 * both.sum() / (predicted.sum() + target.sum()))
        assert result.iou == pytest.approx(both.sum() / either.sum())
        assert result.recall == pytest.approx(predicted[target].mean())
        assert result.precision == pytest.approx(target[predicted].mean())
        assert result.false_positive_rate == pytest.approx(predicted[~target].mean())
        assert result.dice == pytest.approx(2 * result.iou / (1 + result.iou))


def test_a_wrong_class_is_a_miss_and_a_false_positive() -> None:
    predicted, truth = np.array([0, 1, 2, 2, 0], np.uint8), np.array([0, 1, 1, 2, 2], np.uint8)
    assert PixelCounts.of(predicted, truth) == PixelCounts(2, 1, 2, 1)


def test_counts_add_up() -> None:
    a, b = counts([1, 1, 0], [1, 0, 0]), counts([0, 1], [1, 1])
    assert a + b == counts([1, 1, 0, 0, 1], [1, 0, 0, 1, 1])
    assert sum([a, b], PixelCounts()) == a + b


@pytest.mark.parametrize(
    ("predicted", "target", "dice", "precision", "recall", "rate"),
    [
        ([0, 0], [0, 0], 1, 1, 1, 0),  # nothing there and nothing found
        ([1, 0], [0, 0], 0, 0, 1, 0.5),  # a false alarm
        ([0, 0], [1, 0], 0, 0, 0, 0),  # a miss
        ([1, 1], [1, 1], 1, 1, 1, 0),  # lesion everywhere
    ],
)
def test_empty_masks(
    predicted: list[int],
    target: list[int],
    dice: float,
    precision: float,
    recall: float,
    rate: float,
) -> None:
    result = counts(predicted, target)
    assert (result.dice, result.iou) == (dice, dice)
    assert (result.precision, result.recall) == (precision, recall)
    assert result.false_positive_rate == rate
