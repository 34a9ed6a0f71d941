from __future__ import annotations

import csv
import io
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt

from rwkv_edge.errors import DataError
from rwkv_edge.evaluation.volumes import (
    ClassScore,
    evaluate_volumes,
    hd95_3d,
    per_volume_csv,
    volume_summary,
)
from rwkv_edge.preprocess import FloatArray, UInt8Array
from tests.data.volumes import volume, write_h5, write_npz

NAMES = ("background", "a", "b", "c")


def box(
    *corner: int, size: int = 4, shape: tuple[int, int, int] = (20, 30, 40)
) -> NDArray[np.bool_]:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(start, start + size) for start in corner)] = True
    return mask


def voxel(*place: int) -> NDArray[np.bool_]:
    return box(*place, size=1)


def test_dice_and_hd95_by_hand() -> None:
    """Cubes of side 4, one shifted by 2 slices: half overlaps."""
    score = ClassScore.of(box(4, 8, 8), box(6, 8, 8))
    assert score.dice == 0.5
    # of the 56 surface voxels of each cube, 16 lie 2 away (a cap) and 12 + 4 lie 1 away
    assert score.hd95 == 2.0
    assert score.case == "measured"
    assert ClassScore.of(box(4, 8, 8), box(4, 8, 8)) == ClassScore(1.0, 0.0, "measured")


def test_hd95_counts_slices_as_voxels() -> None:
    assert hd95_3d(voxel(1, 5, 5), voxel(8, 5, 5)) == 7
    assert hd95_3d(voxel(1, 5, 5), voxel(1, 8, 9)) == 5
    assert hd95_3d(voxel(0, 0, 0), voxel(1, 1, 1)) == pytest.approx(sqrt(3))


def test_a_far_speck_is_beyond_the_95th_percentile() -> None:
    """One of 57 surface voxels is far away: less than 5 % of both directions together."""
    cube = box(4, 8, 8)
    assert hd95_3d(cube | voxel(19, 29, 39), cube) == 0
    assert hd95_3d(cube | box(16, 20, 30), cube) > 20


@pytest.mark.parametrize("seed", range(6))
def test_hd95_is_that_of_whole_arrays(seed: int) -> None:
    """The crop changes nothing; masks touch the border of the array in some."""
    rng = np.random.default_rng(seed)
    a, b = (
        sum(box(*rng.integers(0, (17, 27, 37)), size=3) for _ in range(4)) > 0 for _ in range(2)
    )
    borders = [mask ^ binary_erosion(mask) for mask in (a, b)]
    distances = [distance_transform_edt(~border) for border in borders]
    both = np.hstack([distances[1][borders[0]], distances[0][borders[1]]])
    assert hd95_3d(a, b) == pytest.approx(np.percentile(both, 95))


def test_empty_classes_as_published() -> None:
    nothing, something = box(0, 0, 0, size=0), box(1, 1, 1)
    assert ClassScore.of(something, nothing) == ClassScore(1.0, 0.0, "invented")
    assert ClassScore.of(nothing, something) == ClassScore(0.0, 0.0, "missed")
    assert ClassScore.of(nothing, nothing) == ClassScore(0.0, 0.0, "absent")


def perfect(classes: int, *, never: int | None = None):  # type: ignore[no-untyped-def]
    """A model that knows the brightness of each class, and may be blind to one."""

    def predict(batch: UInt8Array) -> FloatArray:
        level = np.rint((batch[..., 0] / 255 - 0.05) * classes).clip(0, classes - 1)
        if never is not None:
            level[level == never] = 0
        # a third at most: a threshold of 0.5 would leave nothing, the most probable class wins
        return (np.arange(classes)[None, :, None, None] == level[:, None]) * np.float32(0.2) + 0.2

    return predict


def test_volumes_slice_by_slice(tmp_path: Path) -> None:
    paths = [
        write_h5(tmp_path / "case0001.npy.h5", *volume(seed=1)),
        write_npz(tmp_path / "case_2.npz", *volume(depth=3, seed=2), "img"),
    ]
    scores = evaluate_volumes(perfect(4), (64, 64), paths, NAMES, 0.0)
    summary = volume_summary(scores, NAMES[1:])
    assert (summary["volumes"], summary["slices"]) == (2, 8)
    assert summary["dice"] == 1.0
    assert summary["hd95"] == 0.0
    assert summary["intervals_95"]["dice"] == [1.0, 1.0]

    blind = evaluate_volumes(perfect(4, never=2), (64, 64), paths, NAMES, 0.0)
    summary = volume_summary(blind, NAMES[1:])
    assert summary["dice"] == pytest.approx(2 / 3)
    assert summary["classes"]["b"]["dice"] == 0.0
    assert summary["classes"]["b"]["missed"] == 2
    assert summary["classes"]["b"]["hd95_where_measured"] is None
    assert summary["classes"]["a"]["measured"] == 2
    first, second = csv.DictReader(io.StringIO(per_volume_csv(blind, NAMES[1:])))
    assert (first["volume"], first["slices"], first["case_b"]) == ("case0001.npy.h5", "5", "missed")
    assert float(second["dice"]) == pytest.approx(2 / 3)


def test_bad_volumes_are_all_listed(tmp_path: Path) -> None:
    image, label = volume()
    good = write_h5(tmp_path / "a.h5", image, label)
    flat = write_h5(tmp_path / "b.h5", image[0], label[0])
    bright = write_h5(tmp_path / "c.h5", image * 400, label)
    with pytest.raises(DataError) as caught:
        evaluate_volumes(perfect(4), (64, 64), [good, flat, bright], NAMES, 0.0)
    first, *problems = str(caught.value).splitlines()
    assert first.endswith("2 problems")
    assert "b.h5: 2 dimensions, but a volume has 3" in problems[0]
    assert "c.h5: values from" in problems[1]
