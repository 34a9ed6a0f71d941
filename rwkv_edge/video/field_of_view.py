"""Where an endoscope's picture lies in the frame: circle, octagon, cut rectangle.

The network gets the tissue alone, larger and without the border; what a processor writes beside it,
the patient's name among it, can be kept out of everything recorded.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from rwkv_edge.config import Outside
from rwkv_edge.preprocess import FloatArray, UInt8Array

_DARK = 24
"""A pixel that never exceeded this (of 255, in its brightest channel) was never lit."""
_MIN_SHARE = 0.15  # of the frame: less is a lamp, a logo or darkness, not a field of view
_MIN_SOLIDITY = 0.85  # share of its own convex hull: a field of view has no dents
_WHOLE = 0.97  # of the frame: there is no border worth cutting
_SAME = 0.97  # overlap (IoU) from which two fields of view count as one
_WORK_SIDE = 240  # pixels; it is sought in a small copy
_FADE = 0.98  # how fast what was bright is forgotten, a look
_SETTLING = 10  # frames at the start on which the first field of view is refined
_LOOK_EVERY = 10  # frames, later
_AGREEING = 3  # looks in a row that must see a smaller one before it is moved
_AGREEING_ON_MORE = 10  # a larger one shows what was hidden: each of these must see all of it
_LIT_LOOKS = 3
"""Looks in which a pixel must have been bright: a flash, a menu or a damaged frame is in fewer."""
_BORDER = 16  # what surrounds a field of view is mostly not brighter: black as video has it
_STEP, _STEP_SHARE = 40, 0.6
"""From a field of view to its border, within a fiftieth of the frame: levels, and the share of what
is bright a little further in. A shadow ends softer."""
_SHARP = 0.5  # share of a new edge that must be such a step: dark tissue lies along the rest
_RIM = 25  # one part in so many of the shorter side: where a border that comes in covers first
_RIM_DARKER = (
    0.05  # of it, from which a border may have come; a smaller view leaves a tenth or more
)
_SURE_OF_LESS = 5  # frames in a row that must show the same border before it is believed
_SURE_OF_WHOLE = 100  # frames at the start before a bright screen counts as the picture
_MIN_PART = 0.01  # of the frame: smaller than this are letters, which are not joined to anything
_BLUR_CELLS = 8  # in the shorter side: each is larger than a line of text, and keeps only its mean


@dataclass(frozen=True, eq=False)
class FieldOfView:
    """A region of the frame."""

    box: tuple[int, int, int, int]
    """Left, top, width and height in pixels."""
    region: UInt8Array
    """(h, w) uint8 of the frame's size: 255 inside, 0 outside."""
    whole: bool
    """The picture fills the frame: there is nothing to cut."""

    @property
    def area(self) -> int:
        """Pixels inside."""
        return cv2.countNonZero(self.region)

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the box."""
        left, top, width, height = self.box
        return slice(top, top + height), slice(left, left + width)

    def crop(self, image: UInt8Array) -> UInt8Array:
        """Return (height, width, 3) of the box, black outside the region."""
        if self.whole:
            return image
        inside = self.window
        cut = cv2.bitwise_and(image[inside], image[inside], mask=self.region[inside])
        return cut.astype(np.uint8, copy=False)

    def place(self, probability: FloatArray) -> FloatArray:
        """Put (classes, height, width) of the box back into the frame; all background outside."""
        if self.whole:
            return probability
        placed = np.zeros((probability.shape[0], *self.region.shape), np.float32)
        rows, columns = self.window
        placed[:, rows, columns] = probability
        placed[:, self.region == 0] = 0
        if probability.shape[0] > 1:
            placed[0][self.region == 0] = 1
        return placed

    def without_outside(self, image: UInt8Array, outside: Outside) -> UInt8Array:
        """Return (h, w, 3) with what lies outside the region treated as asked; cropped, the box."""
        if outside is Outside.SHOW or self.whole:
            return image
        if outside is Outside.CROP:
            return self.crop(image)
        if outside is Outside.BLACK:
            return cv2.bitwise_and(image, image, mask=self.region).astype(np.uint8, copy=False)
        height, width = self.region.shape
        cell = max(1, min(height, width) // _BLUR_CELLS)
        beside = cv2.bitwise_and(image, image, mask=255 - self.region)  # no glow of the tissue
        cells = (-(-width // cell), -(-height // cell))
        blurred = cv2.resize(
            cv2.resize(beside, cells, interpolation=cv2.INTER_AREA), (width, height)
        )
        return cv2.copyTo(image, self.region, blurred).astype(np.uint8, copy=False)


class FieldOfViewTracker:
    """Finds the field of view in the first frames and follows it slowly."""

    def __init__(self) -> None:
        self._bright = np.zeros((0, 0, 0), np.uint8)
        self._size = (0, 0)
        self._frames = 0
        self._found: FieldOfView | None = None
        self._disagreeing = 0
        self._border: FieldOfView | None = None
        self._bordered = 0
        self._rim = np.zeros((0, 0), bool)
        self._rim_of: FieldOfView | None = None
        self._rim_dark = 0.0

    @property
    def is_settled(self) -> bool:
        """Whether enough frames were seen to tell a field of view from a flash or a screen."""
        whole = self._found is not None and self._found.whole
        if self._bordered or (whole and self._frames < _SURE_OF_WHOLE):
            return False
        return self._frames >= _LIT_LOOKS

    def update(self, image: UInt8Array) -> FieldOfView | None:
        """Look at a frame; return the field of view, or None while nothing bright was seen.

        Args:
            image: (h, w, 3) uint8 BGR. Another size than before begins anew.
        """
        size = (image.shape[0], image.shape[1])
        if size != self._size:
            self.__init__()  # type: ignore[misc]
            self._size = size
        self._frames += 1
        is_look = self._frames <= _SETTLING or self._frames % _LOOK_EVERY == 0
        rim_dark = self._dark_share_of_rim(image)
        may_be_bordered = self._bordered > 0 or rim_dark > self._rim_dark + _RIM_DARKER
        if self._found and not is_look and not may_be_bordered:
            self._rim_dark = min(self._rim_dark, rim_dark)
            return self._found
        present = self._shrunk(image)
        if self._is_bordered_again(present):
            return self._found
        if not self._bordered:
            self._rim_dark = rim_dark
        if self._found and not is_look:
            return self._found
        self._remember(present)
        seen = self._seek(self._bright[0])
        if seen is None:
            return self._found  # the lamp is off, or the lens covered: it will come back there
        if self._found is None or self._frames <= _SETTLING:
            if self._found is None or not _is_same(self._found, seen):
                self._found = seen
        elif _is_same(self._found, seen):
            self._disagreeing = 0
        else:
            is_more = seen.area > self._found.area
            # a larger one may be remembered alone, as a menu is that is gone
            is_evident = not is_more or _is_same(seen, self._seek(present))
            self._disagreeing = self._disagreeing + 1 if is_evident else 0
            if self._disagreeing >= (_AGREEING_ON_MORE if is_more else _AGREEING):
                self._found, self._disagreeing = seen, 0
        return self._found

    def _dark_share_of_rim(self, image: UInt8Array) -> float:
        """Look at few pixels: cheap, since every frame needs it."""
        if self._found is None:
            return 0.0
        step = max(1, max(self._size) // _WORK_SIDE)
        if self._rim_of is not self._found:
            region = self._found.region[::step, ::step]
            side = 2 * (min(region.shape) // _RIM) + 1
            core = cv2.erode(region, np.ones((side, side), np.uint8), borderValue=0)
            self._rim_of, self._rim, self._rim_dark = self._found, region > core, 0.0
        brightest = image[::step, ::step][self._rim].max(axis=1)
        return float((brightest <= _DARK).mean()) if brightest.size else 1.0

    def _is_bordered_again(self, present: UInt8Array) -> bool:
        """Follow at once where a border has come into the view: what was there was a screen.

        Waiting until what was bright there is forgotten would show for half a minute what a
        processor writes on that border.
        """
        less = self._less(present)
        if less is None:
            self._border, self._bordered = None, 0
            return False
        same = self._border is not None and _is_same(less, self._border)
        self._border, self._bordered = less, self._bordered + 1 if same else 1
        if self._bordered < _SURE_OF_LESS:
            return False
        self._bright = np.repeat(present[None], _LIT_LOOKS, axis=0)
        self._found, self._disagreeing, self._bordered = less, 0, 0
        return True

    def _less(self, present: UInt8Array) -> FieldOfView | None:
        """Return what a border leaves of the view found before; None where there is none."""
        found, seen = self._found, self._seek(present)
        if found is None or seen is None or seen.whole or not _is_dark_around(seen, present):
            return None
        if found.whole:
            return seen
        both = cv2.bitwise_and(found.region, seen.region).astype(np.uint8, copy=False)
        area = cv2.countNonZero(both)
        # what a shadow leaves is smaller, too
        if not _MIN_SHARE * both.size <= area < _SAME * found.area or not _is_cut_sharply(
            found, seen, present
        ):
            return None
        left, top, width, height = cv2.boundingRect(both)
        return FieldOfView((left, top, width, height), both, False)

    def _shrunk(self, image: UInt8Array) -> UInt8Array:
        """Return (h, w) of a small copy, the brightest channel of each pixel."""
        scale = min(1.0, _WORK_SIDE / max(self._size))
        size = (max(8, round(self._size[1] * scale)), max(8, round(self._size[0] * scale)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        return np.asarray(small.max(axis=2), np.uint8)

    def _remember(self, small: UInt8Array) -> None:
        """Keep the brightest looks at each pixel of late: tissue is dark now and then."""
        faded = (self._bright * _FADE).astype(np.uint8).reshape(-1, *small.shape)
        self._bright = np.sort(np.concatenate([faded, small[None]]), axis=0)[-_LIT_LOOKS:]

    def _seek(self, bright: UInt8Array) -> FieldOfView | None:
        lit = (bright > _DARK).view(np.uint8)
        total = lit.size
        # letters, and bridges to them, are thinner than this
        side = max(3, round(max(lit.shape) / 40)) | 1
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
        # dark spots within the tissue are filled, and letters go before anything is joined: a
        # block of them beside the picture would become a part of it
        parts, _ = cv2.findContours(lit, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        large = [part for part in parts if cv2.contourArea(part) >= _MIN_PART * total]
        filled = cv2.drawContours(lit.copy(), large, -1, 1, -1)
        padded = cv2.copyMakeBorder(filled, side, side, side, side, cv2.BORDER_REPLICATE)
        opened = cv2.morphologyEx(padded, cv2.MORPH_OPEN, kernel)
        joined = cv2.morphologyEx(opened, cv2.MORPH_CLOSE, kernel)[side:-side, side:-side]
        contours, _ = cv2.findContours(joined, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        if not contours:
            return None
        outline = max(contours, key=cv2.contourArea)
        hull = cv2.convexHull(outline)
        area, hull_area = cv2.contourArea(outline), cv2.contourArea(hull)
        if area < _MIN_SHARE * total or area < _MIN_SOLIDITY * hull_area:
            return None
        return self._enlarged(hull, joined.shape)

    def _enlarged(self, hull: np.ndarray, shape: tuple[int, ...]) -> FieldOfView:
        height, width = self._size
        # the centre of a small pixel is the centre of what it was made from
        factor = np.array([width / shape[1], height / shape[0]])
        points = np.round((hull.reshape(-1, 2) + 0.5) * factor - 0.5).astype(np.int32)
        region = np.zeros(self._size, np.uint8)
        cv2.fillConvexPoly(region, points, 255)
        # contours run through the outermost pixels' centres: the other half belongs to them too
        border = round(factor.max() / 2)
        region = cv2.dilate(region, np.ones((2 * border + 1, 2 * border + 1), np.uint8)).astype(
            np.uint8
        )
        if cv2.countNonZero(region) > _WHOLE * height * width:
            return FieldOfView((0, 0, width, height), np.full(self._size, 255, np.uint8), True)
        left, top, box_width, box_height = cv2.boundingRect(region)
        return FieldOfView((left, top, box_width, box_height), region, False)


def _is_dark_around(view: FieldOfView, small: UInt8Array) -> bool:
    around = small[_shrink_region(view, small) == 0]
    return around.size > 0 and float(np.median(around)) <= _BORDER


def _is_cut_sharply(found: FieldOfView, seen: FieldOfView, small: UInt8Array) -> bool:
    """Tell whether the edge of `seen` within `found` is a mask's: a step, not a fading light."""
    before, region = _shrink_region(found, small), _shrink_region(seen, small)
    core = cv2.erode(region, np.ones((3, 3), np.uint8), borderValue=255)
    rest = 255 - cv2.dilate(region, np.ones((3, 3), np.uint8))
    step = _mean_nearby(small, core, 7) - _mean_nearby(small, rest, 7)
    least = np.maximum(_STEP, _STEP_SHARE * _mean_nearby(small, core, 21))
    within = cv2.erode(before, np.ones((9, 9), np.uint8), borderValue=0)
    new_edge = (region > core) & (within > 0)
    return bool(new_edge.any()) and float((step >= least)[new_edge].mean()) >= _SHARP


def _mean_nearby(small: UInt8Array, where: np.ndarray, side: int) -> np.ndarray:
    """Return (h, w), the mean around each pixel of those that are in `where`."""
    inside = (where > 0).astype(np.float32)
    total, count = (cv2.blur(part, (side, side)) for part in (small * inside, inside))
    return np.asarray(total / np.maximum(count, 1e-6), np.float32)


def _shrink_region(view: FieldOfView, small: UInt8Array) -> UInt8Array:
    region = cv2.resize(view.region, small.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return region.astype(np.uint8, copy=False)


def _is_same(one: FieldOfView, other: FieldOfView | None) -> bool:
    if other is None:
        return False
    both = cv2.countNonZero(cv2.bitwise_and(one.region, other.region))
    either = cv2.countNonZero(cv2.bitwise_or(one.region, other.region))
    return both >= _SAME * either
