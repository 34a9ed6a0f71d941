from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, distance_transform_edt

from rwkv_edge.evaluation.regions import BoolArray, LesionCounts, hd95, size_class


def mask(*boxes: tuple[int, int, int, int]) -> BoolArray:
    """True in boxes of (top, left, height, width)."""
    result = np.zeros((60, 80), bool)
    for top, left, height, width in boxes:
        result[top : top + height, left : left + width] = True
    return result


A, B = (5, 5, 10, 10), (30, 40, 10, 10)


@pytest.mark.parametrize(
    ("predicted", "truth", "lesions", "found", "false_alarms"),
    [
        ([A, B], [A, B], 2, 2, 0),
        ([A], [A, B], 2, 1, 0),
        ([A, B], [A], 1, 1, 1),
        ([], [A], 1, 0, 0),
        ([A], [], 0, 0, 1),
        ([], [], 0, 0, 0),
        ([(5, 5, 10, 2)], [A], 1, 0, 0),  # a fifth of the lesion, though all of it is right
        ([(5, 5, 10, 3)], [A], 1, 1, 0),  # three tenths
        ([(0, 0, 60, 80)], [A, B], 2, 2, 1),  # finds all and means nothing
        ([(5, 5, 4, 10), (11, 5, 4, 10)], [A], 1, 1, 0),  # one lesion in two pieces
        ([(5, 5, 35, 45)], [A, B], 2, 2, 1),
    ],
)
def test_lesions(
    predicted: list[tuple[int, int, int, int]],
    truth: list[tuple[int, int, int, int]],
    lesions: int,
    found: int,
    false_alarms: int,
) -> None:
    counts = LesionCounts.of(mask(*predicted), mask(*truth))
    assert (counts.lesions, counts.found, counts.false_alarms) == (lesions, found, false_alarms)


def test_false_area_and_specks() -> None:
    counts = LesionCounts.of(mask(B), mask(A))
    assert counts.false_area == 100 / 4800
    big = np.zeros((200, 200), bool)
    big[3, 3:6] = True  # 3 of 40,000 pixels
    assert LesionCounts.of(big, ~big).false_alarms == 0
    assert LesionCounts.of(~big, big).lesions == 0
    big[3, 6] = True
    assert LesionCounts.of(big, big & False).false_alarms == 1


def test_diagonal_neighbours_are_one_region() -> None:
    diagonal = np.eye(20, dtype=bool)
    assert LesionCounts.of(diagonal, diagonal).lesions == 1


@pytest.mark.parametrize(
    ("share", "name"),
    [
        (0, None),
        (0.049, "small"),
        (0.05, "medium"),
        (0.199, "medium"),
        (0.2, "large"),
        (1, "large"),
    ],
)
def test_size_class(share: float, name: str | None) -> None:
    truth = np.zeros(1000, bool)
    truth[: round(share * 1000)] = True
    assert size_class(truth.reshape(25, 40)) == name


def by_scipy(a: BoolArray, b: BoolArray) -> float:
    """HD95 as medpy defines it."""
    edges = [part & ~binary_erosion(part) for part in (a, b)]
    distances = [
        distance_transform_edt(~edges[1])[edges[0]],
        distance_transform_edt(~edges[0])[edges[1]],
    ]
    return float(np.percentile(np.concatenate(distances), 95))


def test_hd95_by_hand() -> None:
    """Two upright lines 7 pixels apart."""
    assert hd95(mask((0, 10, 60, 1)), mask((0, 17, 60, 1))) == 7
    assert hd95(mask(A), mask(A)) == 0
    assert np.isnan(hd95(mask(), mask(A)))
    assert np.isnan(hd95(mask(A), mask()))


def test_hd95_against_scipy() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:60, :80]
    for _ in range(20):
        a, b = (
            ((y - rng.uniform(0, 60)) / rng.uniform(3, 30)) ** 2
            + ((x - rng.uniform(0, 80)) / rng.uniform(3, 30)) ** 2
            < 1
            for _ in range(2)
        )
        if a.any() and b.any():
            assert hd95(a, b) == pytest.approx(by_scipy(a, b), abs=1e-4)
    noise = rng.random((2, 60, 80)) < 0.1
    assert hd95(*noise) == pytest.approx(by_scipy(*noise), abs=1e-4)
