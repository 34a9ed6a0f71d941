"""Masks as lesions and outlines instead of pixels: found or missed, false alarms, HD95."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rwkv_edge.preprocess import FloatArray, UInt8Array

BoolArray = NDArray[np.bool_]
MIN_OVERLAP = 0.25
"""A lesion is found if the prediction covers this share of it, and a predicted region is a false
alarm if less than this share of it lies on lesions: neither a pixel nor a mask of all wins."""
MIN_AREA_SHARE = 1e-4
"""Regions smaller than this share of the image are specks, of JPEG masks or noise: not counted."""
SIZES = {"small": (0.0, 0.05), "medium": (0.05, 0.20), "large": (0.20, 1.0)}
"""Share of the image that an image's lesions cover together: at least, and less than."""


@dataclass(frozen=True)
class LesionCounts:
    """Lesions and predicted regions of one image."""

    lesions: int
    found: int
    false_alarms: int
    false_area: float
    """Share of the image that the false alarms cover, 0..1."""

    @classmethod
    def of(cls, predicted: BoolArray, truth: BoolArray) -> LesionCounts:
        """Count the 8-connected regions of two masks (h, w) that match by `MIN_OVERLAP`."""
        shares_found = [share for _, share in _regions(truth, predicted)]
        false = [area for area, share in _regions(predicted, truth) if share < MIN_OVERLAP]
        return cls(
            len(shares_found),
            sum(share >= MIN_OVERLAP for share in shares_found),
            len(false),
            sum(false) / truth.size,
        )


def _regions(mask: BoolArray, other: BoolArray) -> list[tuple[int, float]]:
    """Area of each region of `mask` in pixels, and the share of it that `other` has too."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=8
    )
    covered = np.bincount(labels[other], minlength=count)
    areas = stats[:, cv2.CC_STAT_AREA]
    return [
        (int(areas[index]), float(covered[index] / areas[index]))
        for index in range(1, count)
        if areas[index] >= MIN_AREA_SHARE * mask.size
    ]


def size_class(truth: BoolArray) -> str | None:
    """Name the size of an image's lesions, one of `SIZES`; None without a lesion."""
    share = float(truth.mean())
    if share == 0:
        return None
    return next((name for name, (low, high) in SIZES.items() if low <= share < high), "large")


def hd95(predicted: BoolArray, truth: BoolArray) -> float:
    """95th percentile of the distances between two outlines, in pixels.

    The distances of each outline's pixels to the other outline, both directions together, as in
    medpy and the Synapse and ACDC tables. NaN where a mask is empty: there is no distance then.
    """
    if not predicted.any() or not truth.any():
        return float("nan")
    ours, theirs = _outline(predicted), _outline(truth)
    both = np.concatenate([_distance_to(theirs)[ours > 0], _distance_to(ours)[theirs > 0]])
    return float(np.percentile(both, 95))


def _outline(mask: BoolArray) -> UInt8Array:
    """Pixels of the mask with a 4-neighbour outside it; outside the image is outside the mask."""
    solid = mask.astype(np.uint8)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    inner = cv2.erode(solid, cross, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return (solid - inner).astype(np.uint8, copy=False)


def _distance_to(outline: UInt8Array) -> FloatArray:
    away = cv2.distanceTransform(1 - outline, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return away.astype(np.float32, copy=False)
