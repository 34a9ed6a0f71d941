"""The endoscope's tip: where it is, where it looks, its wide lens and its field of view."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .vectors import Array


@dataclass(frozen=True)
class Pose:
    """Position and orientation of the tip."""

    origin: Array  # (3,)
    axes: Array  # (3, 3): rows point right, down and forward in the image

    def to_world(self, rays: Array) -> Array:
        """Directions (3, H, W) of the camera's frame, in the world's."""
        turned = self.axes.T @ rays.reshape(3, -1)
        return np.ascontiguousarray(turned.reshape(rays.shape))


def look(origin: Array, towards: Array, roll: float) -> Pose:
    """The pose at `origin` that looks along `towards` (3,), turned by `roll` radians."""
    forward = towards / np.linalg.norm(towards)
    helper = np.array([np.sin(roll), np.cos(roll), 0.0])
    if abs(forward @ helper) > 0.95:
        helper = np.array([0.0, 0.0, 1.0])
    right = np.cross(helper, forward)
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(forward, right), forward])
    return Pose(origin.astype(np.float32), axes.astype(np.float32))


@dataclass(frozen=True)
class Lens:
    """An equidistant wide-angle lens: the angle off the axis grows with the image radius."""

    half_angle: float  # radians, at the corner of the frame

    def radians_per_pixel(self, height: int, width: int) -> float:
        """Angle that one pixel spans."""
        return self.half_angle / (0.5 * float(np.hypot(height, width)))

    def rays(self, height: int, width: int, scale: int = 1) -> Array:
        """Unit directions (3, ceil(H / scale), ceil(W / scale)) in the camera's frame."""
        return _rays(self, height, width, scale)

    def towards(self, x: float, y: float, height: int, width: int) -> Array:
        """Unit direction (3, 1, 1) in the camera's frame that appears at pixel (x, y)."""
        per_pixel = self.radians_per_pixel(height, width)
        return _directions(
            np.array([[(x - (width - 1) / 2) * per_pixel]], np.float32),
            np.array([[(y - (height - 1) / 2) * per_pixel]], np.float32),
        )


@lru_cache(maxsize=8)
def _rays(lens: Lens, height: int, width: int, scale: int) -> Array:
    per_pixel = lens.radians_per_pixel(height, width)
    rows = np.arange(-(-height // scale), dtype=np.float32)
    columns = np.arange(-(-width // scale), dtype=np.float32)
    middle = np.float32((scale - 1) / 2)
    x = ((columns * scale + middle - (width - 1) / 2) * per_pixel)[None]
    y = ((rows * scale + middle - (height - 1) / 2) * per_pixel)[:, None]
    rays = _directions(x, y)
    rays.flags.writeable = False  # shared by every caller
    return rays


def _directions(x: Array, y: Array) -> Array:
    """Unit vectors (3, H, W) that lie at the angles x and y off the axis."""
    angle = np.hypot(x, y)
    spread = np.sinc(angle / np.float32(np.pi))
    return np.stack([x * spread, y * spread, np.cos(angle)]).astype(np.float32)


def draw_lens(rng: np.random.Generator) -> Lens:
    """Draw a lens of 110 to 160 degrees across the diagonal."""
    return Lens(half_angle=np.radians(rng.uniform(55, 80)))


def field_of_view(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Draw the shape of the visible area: (H, W) uint8, 255 inside, 0 in the black border."""
    kind = str(rng.choice(["octagon", "circle", "cut corners", "full"], p=[0.45, 0.2, 0.2, 0.15]))
    # The frame spans -1..1 both ways.
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j] / rng.uniform(0.92, 1.02)
    if kind in ("octagon", "circle"):  # nearly as wide as high, whatever the frame
        stretch = rng.uniform(1.0, 1.15)
        x *= max(1.0, width / height / stretch)
        y *= max(1.0, height / width / stretch)
    if kind == "circle":
        inside = np.hypot(x, y) < rng.uniform(1.0, 1.1)
    elif kind == "full":
        inside = np.ones(x.shape, np.bool_)
    else:
        corner = rng.uniform(1.3, 1.5) if kind == "octagon" else rng.uniform(1.6, 1.8)
        inside = (np.abs(x) < 1) & (np.abs(y) < 1) & (np.abs(x) + np.abs(y) < corner)
    if kind != "full" and rng.uniform() < 0.3:  # the picture of the scope guide covers a corner
        inside[int(height * rng.uniform(0.6, 0.85)) :, : int(width * rng.uniform(0.15, 0.35))] = 0
    return np.where(inside, 255, 0).astype(np.uint8)
