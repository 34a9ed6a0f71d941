"""A model on whole volumes, slice by slice: 3-D Dice and HD95 of each class.

Where a class is empty, the published code for Synapse and ACDC (TransUNet's, which RWKV-UNet took
over) defines: Dice 1 and HD95 0 where it is predicted but not there; Dice 0 and HD95 0 where it is
there but not predicted, and where neither has it. So a missed organ costs Dice but flatters HD95:
the counts of such cases are reported beside, and the HD95 of the others alone.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rwkv_edge.data.pairs import raise_problems
from rwkv_edge.data.slices import Window, read_volume, to_planes
from rwkv_edge.errors import DataError, MissingDependencyError
from rwkv_edge.evaluation.bootstrap import mean_interval
from rwkv_edge.evaluation.evaluate import Predict, has_scipy, predict_labels
from rwkv_edge.evaluation.regions import BoolArray
from rwkv_edge.metrics import PixelCounts

MEASURED, MISSED, INVENTED, ABSENT = "measured", "missed", "invented", "absent"
"""A class of a volume: in both, in the truth alone, in the prediction alone, in neither."""


@dataclass(frozen=True)
class ClassScore:
    """One class of one volume, by the published definition."""

    dice: float
    hd95: float
    """Voxels."""
    case: str

    @classmethod
    def of(cls, predicted: BoolArray, truth: BoolArray) -> ClassScore:
        """Compare two masks (slices, h, w)."""
        if not predicted.any():
            return cls(0.0, 0.0, MISSED if truth.any() else ABSENT)
        if not truth.any():
            return cls(1.0, 0.0, INVENTED)
        return cls(PixelCounts.of(predicted, truth).dice, hd95_3d(predicted, truth), MEASURED)


@dataclass(frozen=True)
class VolumeScore:
    """One volume, class by class."""

    path: Path
    slices: int
    classes: tuple[ClassScore, ...]

    @property
    def mean_dice(self) -> float:
        """Mean of the classes."""
        return float(np.mean([score.dice for score in self.classes]))

    @property
    def mean_hd95(self) -> float:
        """Mean of the classes, voxels."""
        return float(np.mean([score.hd95 for score in self.classes]))


def require_scipy() -> None:
    """Raise MissingDependencyError if scipy, for HD95, is not installed."""
    if not has_scipy():
        raise MissingDependencyError("scipy", "evaluation", "HD95 of volumes")


def evaluate_volumes(
    predict: Predict,
    input_size: tuple[int, int],
    volumes: Sequence[Path],
    names: tuple[str, ...],
    confidence: float,
    on_progress: Callable[[], None] | None = None,
    window: Window | None = None,
) -> list[VolumeScore]:
    """Segment every slice of every volume and compare whole volumes with their labels.

    Args:
        predict: the model.
        input_size: height and width of its input, in pixels.
        volumes: .npz or .h5 files, at least one.
        names: the classes, as in `DataSet`.
        confidence: a foreground pixel must reach this probability; 0 lets the most probable class
            win, as published.
        on_progress: called after each volume.
        window: as in `read_slice`.

    Raises:
        DataError: lists every volume that cannot be used.
        BackendError: the model failed.
        MissingDependencyError: h5py or scipy is not installed.
    """
    require_scipy()
    labels = range(1, max(2, len(names)))
    scores, problems = [], []
    for path in volumes:
        try:
            grey, truth = read_volume(path, len(names), window)
        except DataError as error:
            problems.append(str(error))
            continue
        if not problems:  # else only to find the others
            parts = [
                predict_labels(predict, input_size, to_planes(part), confidence) for part in grey
            ]
            predicted = np.stack(parts)
            classes = tuple(ClassScore.of(predicted == k, truth == k) for k in labels)
            scores.append(VolumeScore(path, len(grey), classes))
        if on_progress:
            on_progress()
    raise_problems(volumes[0].parent, problems)
    return scores


def hd95_3d(predicted: BoolArray, truth: BoolArray) -> float:
    """95th percentile of the distances between two surfaces, in voxels of equal sides.

    As medpy's: a surface voxel has one of its six neighbours outside the mask or outside the array;
    both directions together; linear interpolation. Neither mask may be empty.
    """
    from scipy.spatial import KDTree

    box = _box(predicted | truth)
    ours, theirs = _surface(predicted[box]), _surface(truth[box])
    both = [KDTree(theirs).query(ours)[0], KDTree(ours).query(theirs)[0]]
    return float(np.percentile(np.concatenate(both), 95))


def _box(mask: BoolArray) -> tuple[slice, ...]:
    found = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        where = np.flatnonzero(mask.any(axis=others))
        found.append(slice(int(where[0]), int(where[-1]) + 1))
    return tuple(found)


def _surface(mask: BoolArray) -> NDArray[np.intp]:
    """Coordinates of the surface voxels: a few thousandths of a volume, so a tree beats a map."""
    from scipy.ndimage import binary_erosion

    return np.argwhere(mask & ~binary_erosion(mask))


def volume_summary(scores: Sequence[VolumeScore], classes: Sequence[str]) -> dict[str, Any]:
    """Return the figures for JSON: means over volumes with 95 % bootstrap intervals, per class.

    Args:
        scores: of `evaluate_volumes`.
        classes: the names of the foreground classes.
    """
    dice = np.array([[score.dice for score in volume.classes] for volume in scores])
    hd95 = np.array([[score.hd95 for score in volume.classes] for volume in scores])
    cases = np.array([[score.case for score in volume.classes] for volume in scores])
    return {
        "volumes": len(scores),
        "slices": sum(volume.slices for volume in scores),
        **_figures(dice.mean(1), hd95.mean(1)),
        "classes": {
            name: {
                **_figures(dice[:, k], hd95[:, k]),
                **{case: int((cases[:, k] == case).sum()) for case in (MEASURED, MISSED, INVENTED)},
                ABSENT: int((cases[:, k] == ABSENT).sum()),
                "hd95_where_measured": _mean(hd95[cases[:, k] == MEASURED, k]),
            }
            for k, name in enumerate(classes)
        },
    }


def _figures(dice: NDArray[np.float64], hd95: NDArray[np.float64]) -> dict[str, Any]:
    intervals = {"dice": mean_interval(dice), "hd95": mean_interval(hd95)}
    return {
        **{name: found.value for name, found in intervals.items()},
        "intervals_95": {name: [found.low, found.high] for name, found in intervals.items()},
    }


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None


def per_volume_csv(scores: Sequence[VolumeScore], classes: Sequence[str]) -> str:
    """Return a CSV with a row for each volume: means, then Dice, HD95 and case of each class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = ["volume", "slices", "dice", "hd95"]
    header += [f"{figure}_{name}" for name in classes for figure in ("dice", "hd95", "case")]
    writer.writerow(header)
    for volume in scores:
        row = [
            volume.path.name,
            volume.slices,
            f"{volume.mean_dice:.6f}",
            f"{volume.mean_hd95:.6f}",
        ]
        for score in volume.classes:
            row += [f"{score.dice:.6f}", f"{score.hd95:.6f}", score.case]
        writer.writerow(row)
    return text.getvalue()
