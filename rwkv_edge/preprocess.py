"""Frame to network input, probability to mask: the one definition that every runtime shares.

The network sees a letterboxed frame: scaled to fit, aspect kept, centred, the rest black as outside
an endoscope's field of view. Normalisation is inside the network's graph, so the input stays uint8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rwkv_edge.config import SIZE_MULTIPLE
from rwkv_edge.errors import UsageError

UInt8Array = NDArray[np.uint8]
FloatArray = NDArray[np.float32]
MIN_SIDE, MAX_SIDE = 8, 8192
"""Frames with a side shorter than the first hold nothing to segment; the second is 8K, and what a
damaged or hostile header claims may fill the memory. Such frames are refused."""


@dataclass(frozen=True)
class Letterbox:
    """Where a frame lies inside the network input; all values in pixels."""

    frame_size: tuple[int, int]
    """Height and width of the frame."""
    input_size: tuple[int, int]
    """Height and width of the network input."""
    top: int
    left: int
    height: int
    width: int

    @classmethod
    def fit(cls, frame_size: tuple[int, int], input_size: tuple[int, int]) -> Letterbox:
        """Return the largest centred placement that keeps the frame's aspect ratio."""
        (h, w), (H, W) = frame_size, input_size
        scale = min(H / h, W / w)
        height, width = max(1, min(H, round(h * scale))), max(1, min(W, round(w * scale)))
        return cls(frame_size, input_size, (H - height) // 2, (W - width) // 2, height, width)

    @property
    def inside(self) -> tuple[slice, slice]:
        """Rows and columns of the network input that show the frame."""
        return (
            slice(self.top, self.top + self.height),
            slice(self.left, self.left + self.width),
        )

    def apply(self, image: UInt8Array, *, interpolation: int | None = None) -> UInt8Array:
        """Scale and centre `image` (h, w[, channels]) on black; area interpolation when shrinking.

        Returns:
            (H, W[, channels]) uint8 of the network input's size.
        """
        if interpolation is None:
            shrinks = self.height < image.shape[0]
            interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        canvas = np.zeros(self.input_size + image.shape[2:], np.uint8)
        small = cv2.resize(image, (self.width, self.height), interpolation=interpolation)
        canvas[self.inside] = small.reshape(small.shape[:2] + image.shape[2:])
        return canvas

    def restore(self, probability: FloatArray) -> FloatArray:
        """Map a probability map of the network's size back onto the frame.

        Args:
            probability: (classes, H, W) float32 in 0..1.

        Returns:
            (classes, h, w) float32 at the frame's own resolution, bilinear.
        """
        h, w = self.frame_size
        inside = probability[:, self.inside[0], self.inside[1]]
        if inside.shape[1:] == (h, w):
            return np.ascontiguousarray(inside)
        planes = [
            cv2.resize(np.ascontiguousarray(plane), (w, h), interpolation=cv2.INTER_LINEAR)
            for plane in inside
        ]
        return np.stack(planes).astype(np.float32, copy=False)


def size_problem(height: int, width: int) -> str:
    """Say why a frame of this size is refused; empty where it is not."""
    if min(height, width) < MIN_SIDE:
        return (
            f"{width} x {height} pixels is too small to segment; "
            f"at least {MIN_SIDE} x {MIN_SIDE} are needed"
        )
    if max(height, width) > MAX_SIDE:
        return f"{width} x {height} pixels is too large; at most {MAX_SIDE} x {MAX_SIDE} are taken"
    return ""


def check_input_size(height: int, width: int) -> None:
    """Raise UsageError unless both sides are positive multiples of 16 pixels, and not too large."""
    if max(height, width) > MAX_SIDE:
        raise UsageError(f"image size {size_problem(height, width)}")
    for side in (height, width):
        if side < SIZE_MULTIPLE or side % SIZE_MULTIPLE:
            nearest = max(SIZE_MULTIPLE, round(side / SIZE_MULTIPLE) * SIZE_MULTIPLE)
            raise UsageError(
                f"image size {height} x {width}: {side} is not a positive multiple of "
                f"{SIZE_MULTIPLE}; try {nearest}"
            )


def to_input(frame: UInt8Array, input_size: tuple[int, int]) -> tuple[UInt8Array, Letterbox]:
    """Letterbox one frame for the network.

    Args:
        frame: (h, w, 3) uint8, BGR as OpenCV reads it.
        input_size: height and width of the network input.

    Returns:
        (1, H, W, 3) uint8 BGR, and the letterbox that maps its output back.
    """
    letterbox = Letterbox.fit((frame.shape[0], frame.shape[1]), input_size)
    return letterbox.apply(frame)[None], letterbox


def to_mask(probability: FloatArray, confidence: float) -> UInt8Array:
    """Turn probabilities into class labels.

    Args:
        probability: (classes, h, w) float32 in 0..1. One class: that of the foreground. Several:
            one plane per class, class 0 the background.
        confidence: a foreground class must reach this probability, in 0..1.

    Returns:
        (h, w) uint8, 0 for background and the class index elsewhere.
    """
    if probability.shape[0] == 1:
        lesion: NDArray[np.bool_] = probability[0] >= confidence
        return lesion.astype(np.uint8)
    label = probability[1:].argmax(axis=0)
    best = np.take_along_axis(probability[1:], label[None], axis=0)[0]
    foreground = (best >= confidence) & (best > probability[0])
    return np.where(foreground, label + 1, 0).astype(np.uint8)


def foreground_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the classes that can be found: of several the first is the background."""
    return tuple(names) if len(names) == 1 else tuple(names[1:])


def foreground_labels(mask: UInt8Array) -> list[int]:
    """Return the classes, from 1, that a (h, w) uint8 mask has pixels of."""
    highest = int(mask.max(initial=0))
    return [label for label in range(1, highest + 1) if (mask == label).any()]


@dataclass(frozen=True)
class Component:
    """One connected region of a mask."""

    label: int
    """Class index, 1 for a binary model."""
    area: int
    """Pixels."""
    box: tuple[int, int, int, int]
    """Left, top, width and height in pixels."""
    confidence: float
    """Mean probability inside the region, 0..1."""


def find_components(mask: UInt8Array, probability: FloatArray) -> list[Component]:
    """List the 8-connected regions of each class, the largest first.

    Args:
        mask: (h, w) uint8 class labels from `to_mask`.
        probability: (classes, h, w) float32 at the same resolution.
    """
    found = []
    for label in foreground_labels(mask):
        plane = probability[0 if probability.shape[0] == 1 else label]
        count, regions, stats, _ = cv2.connectedComponentsWithStats(
            (mask == label).view(np.uint8), connectivity=8
        )
        for index in range(1, count):
            left, top, width, height, area = (int(value) for value in stats[index])
            window = slice(top, top + height), slice(left, left + width)
            confidence = float(plane[window][regions[window] == index].mean())
            found.append(Component(label, area, (left, top, width, height), confidence))
    return sorted(found, key=lambda component: -component.area)
