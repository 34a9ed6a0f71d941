"""A steadier mask: probabilities averaged over time, unless the picture moved, and hysteresis."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from rwkv_edge.preprocess import FloatArray, UInt8Array, to_mask

_THUMBNAIL = (32, 32)


@dataclass(frozen=True)
class Smoothing:
    """How much is smoothed. Weight 1 and hysteresis 0 leave everything as it is."""

    weight: float = 0.5
    """Share of the newest frame in the average, above 0 and up to 1."""
    motion: float = 6.0
    """Mean change of brightness (0 to 255) between two frames that counts as another view."""
    hysteresis: float = 0.1
    """A pixel keeps its class until its probability is this far below the threshold."""


class Smoother:
    """Carries one stream's past. Also counts flicker: pixels that change class in a still view."""

    def __init__(self, smoothing: Smoothing | None = None) -> None:
        self._smoothing = smoothing or Smoothing(weight=1.0, hysteresis=0.0)
        self._view: UInt8Array | None = None
        self._average: FloatArray | None = None
        self._mask: UInt8Array | None = None
        self.still = False
        """Whether the last frame showed the view of the one before."""
        self.still_frames = 0
        self._flicker = 0.0

    def average(self, image: UInt8Array, probability: FloatArray) -> FloatArray:
        """Return the average of this frame's probabilities and the past's, or only this one's.

        Args:
            image: (H, W, 3) uint8, what the network saw.
            probability: (classes, H, W) float32 in 0..1, what it answered.
        """
        grey = cv2.cvtColor(
            cv2.resize(image, _THUMBNAIL, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY
        )
        view = grey.astype(np.uint8, copy=False)
        past, self._view = self._view, view
        self.still = past is not None and (
            float(cv2.absdiff(past, view).mean()) < self._smoothing.motion
        )
        weight = self._smoothing.weight
        before = self._average
        if weight < 1 and self.still and before is not None and before.shape == probability.shape:
            probability = (weight * probability + (1 - weight) * before).astype(np.float32)
        self._average = probability
        return probability

    def mask(self, probability: FloatArray, confidence: float) -> UInt8Array:
        """Return (h, w) uint8 class labels: `to_mask` with hysteresis in a still view.

        Args:
            probability: (classes, h, w) float32 in 0..1, at the frame's own size.
            confidence: the threshold, 0..1.
        """
        mask = to_mask(probability, confidence)
        before = self._mask if self.still else None
        if before is not None and before.shape == mask.shape:
            if self._smoothing.hysteresis > 0:
                easier = to_mask(probability, self._easier(confidence))
                mask = np.where(easier == before, easier, mask)
            self.still_frames += 1
            self._flicker += float(np.count_nonzero(mask != before)) / mask.size
        self._mask = mask
        return mask

    def _easier(self, confidence: float) -> float:
        """Return the threshold of what is marked already: never 0, which everything reaches."""
        return max(confidence - self._smoothing.hysteresis, confidence / 2)

    def forget(self) -> None:
        """Begin anew, as after an invalid output or a lost signal."""
        self._view = self._average = self._mask = None
        self.still = False

    @property
    def flicker(self) -> float | None:
        """Mean share of pixels that changed class between two frames of a still view, 0..1."""
        return self._flicker / self.still_frames if self.still_frames else None
