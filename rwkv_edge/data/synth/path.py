"""How the endoscope moves: a still for an image, an approach to a spot on the wall for a clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .camera import Pose, look
from .lumen import PERIOD, Lumen
from .march import first_hit
from .vectors import Array

_CLEARANCE = 0.3  # radii that the tip keeps from the wall


@dataclass(frozen=True)
class Path:
    """Where the tip is at each second, and the spot on the wall that it inspects, if any."""

    pose: Callable[[float], Pose]
    target: Array | None  # (3,)


def stand_still(rng: np.random.Generator, lumen: Lumen) -> Path:
    """Somewhere in the tube, looking down it or, less often, at its wall."""
    z, aside = 0.0, np.zeros(2)
    for _ in range(50):
        z, aside = rng.uniform(0, PERIOD), rng.normal(0, 0.25, 2)
        if _room(lumen, _beside_axis(lumen, z, aside)) > _CLEARANCE:
            break
    origin = _beside_axis(lumen, z, aside)
    forward = _beside_axis(lumen, z + 1, aside) - origin
    heading, yaw = rng.uniform(0, 2 * np.pi), np.radians(min(85, abs(rng.normal(0, 42))))
    sideways = np.array([np.cos(heading), np.sin(heading), 0])
    gaze = np.cos(yaw) * forward / np.linalg.norm(forward) + np.sin(yaw) * sideways
    pose = look(origin, gaze, rng.uniform(0, 2 * np.pi))
    return Path(lambda _: pose, target=None)


def approach(rng: np.random.Generator, lumen: Lumen, moments: Sequence[float]) -> Path:
    """Towards a spot on the wall and back: of a dozen draws, the best in view at `moments`."""

    def moments_in_view(path: Path) -> int:
        return sum(_sees_target(lumen, path.pose(moment), path.target) for moment in moments)

    return max((_draw_approach(rng, lumen) for _ in range(12)), key=moments_in_view)


def _draw_approach(rng: np.random.Generator, lumen: Lumen) -> Path:
    z, angle = rng.uniform(0, PERIOD), rng.uniform(0, 2 * np.pi)
    outwards = np.array([np.cos(angle), np.sin(angle), 0], np.float32)
    middle = _beside_axis(lumen, z, np.zeros(2))
    wall = first_hit(lumen.distance, middle, outwards[:, None, None])
    target = middle + outwards * wall[0, 0]
    far, near = rng.uniform(1.5, 2.0), rng.uniform(0.7, 1.0)
    attention = rng.uniform(0.6, 0.85)  # 0 looks down the lumen, 1 straight at the target
    roll = rng.uniform(0, 2 * np.pi)
    # Hand and breath: slow waves for x, y, two turns of the gaze, and roll.
    hertz = np.array([0.08, 0.19, 0.27, 0.6])
    size = np.array([0.04, 0.04, 0.08, 0.08, 0.15])[:, None] * np.array([1.0, 0.6, 0.4, 0.1])
    waves, phase = rng.normal(0, size), rng.uniform(0, 2 * np.pi, size.shape)

    def pose(second: float) -> Pose:
        sway = (waves * np.sin(2 * np.pi * hertz * second + phase)).sum(axis=1)
        back = (far + near) / 2 + (far - near) / 2 * np.cos(2 * np.pi * second / 12)
        origin = _beside_axis(lumen, z - back, sway[:2] - 0.2 * outwards[:2])
        ahead = _beside_axis(lumen, z - back + 1.5, np.zeros(2))
        gaze = _towards(origin, target) * attention + _towards(origin, ahead) * (1 - attention)
        gaze[:2] += sway[2:4]
        return look(origin, gaze, roll + sway[4])

    return Path(pose, target)


def _sees_target(lumen: Lumen, pose: Pose, target: Array | None) -> bool:
    """Whether the tip is clear of the wall and no fold hides the target from it."""
    if target is None or _room(lumen, pose.origin) < _CLEARANCE:
        return False
    ray = _towards(pose.origin, target).astype(np.float32)
    reached = first_hit(lumen.distance, pose.origin, ray[:, None, None])
    return bool(reached[0, 0] > np.linalg.norm(target - pose.origin) - 0.15)


def _beside_axis(lumen: Lumen, z: float, aside: NDArray[np.float64]) -> Array:
    """The point (3,) at depth z, `aside` (2,) of the tube's axis."""
    x, y = lumen.centre(np.array([z], np.float32))
    return np.array([x[0] + aside[0], y[0] + aside[1], z], np.float32)


def _room(lumen: Lumen, point: Array) -> float:
    return float(lumen.distance(point[:, None, None])[0, 0])


def _towards(origin: Array, target: Array) -> Array:
    way: Array = (target - origin) / np.linalg.norm(target - origin)
    return way
