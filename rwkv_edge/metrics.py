"""How well a mask fits, from pixel counts (NumPy)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_] | NDArray[np.uint8]
"""Of any shape: whether a lesion is there, or the label of its class, 0 for background."""


@dataclass(frozen=True)
class PixelCounts:
    """True and false positives and negatives, in pixels. Counts add up over images."""

    true_positive: int = 0
    false_positive: int = 0
    false_negative: int = 0
    true_negative: int = 0

    @classmethod
    def of(cls, predicted: Mask, target: Mask) -> PixelCounts:
        """Compare two masks of one shape.

        A pixel of the wrong class is a false positive and a false negative.
        """
        both = int(np.count_nonzero((predicted == target) & (target != 0)))
        ours = int(np.count_nonzero(predicted))
        theirs = int(np.count_nonzero(target))
        neither = target.size - int(np.count_nonzero((predicted != 0) | (target != 0)))
        return cls(both, ours - both, theirs - both, neither)

    def __add__(self, other: PixelCounts) -> PixelCounts:
        return PixelCounts(
            self.true_positive + other.true_positive,
            self.false_positive + other.false_positive,
            self.false_negative + other.false_negative,
            self.true_negative + other.true_negative,
        )

    @property
    def dice(self) -> float:
        """2 TP / (2 TP + FP + FN); 1 where neither mask has a pixel."""
        wrong = self.false_positive + self.false_negative
        return _ratio(2 * self.true_positive, 2 * self.true_positive + wrong, empty=1.0)

    @property
    def iou(self) -> float:
        """TP / (TP + FP + FN); 1 where neither mask has a pixel."""
        wrong = self.false_positive + self.false_negative
        return _ratio(self.true_positive, self.true_positive + wrong, empty=1.0)

    @property
    def precision(self) -> float:
        """TP / (TP + FP); 1 where nothing was predicted and nothing was there."""
        predicted = self.true_positive + self.false_positive
        return _ratio(self.true_positive, predicted, empty=float(self.false_negative == 0))

    @property
    def recall(self) -> float:
        """TP / (TP + FN), also called sensitivity; 1 where there was nothing to find."""
        return _ratio(self.true_positive, self.true_positive + self.false_negative, empty=1.0)

    @property
    def false_positive_rate(self) -> float:
        """FP / (FP + TN), 1 - specificity; 0 where everything was lesion."""
        return _ratio(self.false_positive, self.false_positive + self.true_negative, empty=0.0)


def _ratio(part: int, whole: int, *, empty: float) -> float:
    return part / whole if whole else empty
