"""Sphere tracing: follow rays through a distance field until they meet a surface."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from .camera import Lens, Pose
from .vectors import Array, gather, grid, unit

Field = Callable[[Array], Array]  # from points (3, H, W) to distances (H, W), positive in the open

FAR = 9.0  # radii at which a ray is given up: no light comes back from there
_STEEPEST = 2.4  # the distance is not Euclidean: it may shrink this much per unit of travel
_COARSE = 4  # pixels between the rays of the first pass
_TOLERANCE = 0.0015  # radians: a quarter of a pixel of a small image


def march(
    field: Field, origin: Array, rays: Array, start: Array, rounds: Sequence[int], flattest: float
) -> Array:
    """Follow unit `rays` (3, H, W) from `origin` (3,) to a surface, beginning at `start` (H, W).

    Returns how far (H, W) they went. Each round takes that many steps with the rays that have not
    arrived by then: most arrive at once, those that graze an edge need many steps. A step reckons
    with the slope seen over the step before, but with no less than `flattest`.
    """
    reached, room = _advance(field, origin, rays, start, rounds[0], flattest)
    reached, room, rays = reached.ravel(), room.ravel(), rays.reshape(3, -1)
    for steps in rounds[1:]:
        late = np.flatnonzero((np.abs(room) > _TOLERANCE * reached) & (reached < FAR))
        if not late.size:
            break
        late = grid(late)
        reached[late], room[late] = _advance(
            field, origin, gather(rays, late), reached[late], steps, flattest
        )
    return reached.reshape(start.shape)


def _advance(
    field: Field, origin: Array, rays: Array, start: Array, steps: int, flattest: float
) -> tuple[Array, Array]:
    """How far the rays are after some steps, and how far from the surface they still are."""
    place = origin[:, None, None]
    reached = start
    room = field(place + rays * reached)
    stride = room / np.float32(_STEEPEST)
    for _ in range(steps):
        reached = np.clip(reached + stride, 0, np.float32(FAR))
        before = room
        room = field(place + rays * reached)
        still = np.where(np.abs(stride) < 1e-7, np.float32(1e-7), stride)
        slope = np.float32(1.1) * (before - room) / still
        stride = room / np.clip(slope, np.float32(flattest), np.float32(_STEEPEST))
    return reached, room


def first_hit(field: Field, origin: Array, rays: Array) -> Array:
    """How far (H, W) each ray (3, H, W) goes from `origin` (3,) to the first surface."""
    start = np.zeros(rays.shape[1:], np.float32)
    return march(field, origin, rays, start, (14, 14, 30), flattest=1.8)


def trace(field: Field, pose: Pose, lens: Lens, height: int, width: int) -> tuple[Array, Array]:
    """Rays (3, H, W) of a photograph and how far each goes (H, W), coarse to fine."""
    coarse = first_hit(field, pose.origin, pose.to_world(lens.rays(height, width, _COARSE)))
    # At an edge begin before the nearest of the neighbours, so that nothing is stepped over.
    window = np.ones((3, 3), np.uint8)
    nearest, farthest = cv2.erode(coarse, window), cv2.dilate(coarse, window)
    careful = np.where(farthest < 1.25 * nearest, coarse, nearest * np.float32(0.98))
    grown = cv2.resize(careful, None, fx=_COARSE, fy=_COARSE, interpolation=cv2.INTER_LINEAR)
    start = np.ascontiguousarray(grown[:height, :width], dtype=np.float32)
    rays = pose.to_world(lens.rays(height, width))
    return rays, march(field, pose.origin, rays, start, (2, 4, 8, 20), flattest=0.9)


def gradient(field: Field, points: Array) -> Array:
    """Unit normals (3, H, W) of the field, from four probes at the corners of a tetrahedron."""
    step = np.float32(0.008)
    total = np.zeros_like(points)
    for corner in np.array([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]], np.float32):
        direction = corner[:, None, None]
        total += direction * field(points + direction * step)
    return unit(total)
