"""The colon as geometry: a bent tube of mean radius 1, its haustral folds and its fluid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .vectors import Array, dot, fractal_noise, linear, sample, smoothstep

PERIOD = 16.0  # the folds repeat after this many radii, long after the light has died
_RELIEF_SHAPE = (1024, 256)  # along the tube, around it
_FLUIDS = np.array([[25, 80, 130], [60, 110, 150], [30, 120, 165]], np.float32)  # sRGB, BGR order


@dataclass(frozen=True)
class Lumen:
    """A tube along z: its axis sways, its wall is a height map over (z, angle)."""

    relief: Array  # (rows over z, columns over the angle), rise of the wall towards the axis
    bends: Array  # (n, 4) rows of amplitude in x, amplitude in y, frequency, phase

    def centre(self, z: Array) -> tuple[Array, Array]:
        """Where the axis passes at depth z: x and y, shaped like z."""
        x, y = np.zeros_like(z), np.zeros_like(z)
        for in_x, in_y, frequency, phase in self.bends:
            sway = np.sin(z * frequency + phase)
            x += in_x * sway
            y += in_y * sway
        return x, y

    def polar(self, points: Array) -> tuple[Array, Array]:
        """Distance from the axis, and the angle around it in turns."""
        x, y = self.centre(points[2])
        radius, angle = cv2.cartToPolar(points[0] - x, points[1] - y)
        return radius, angle * np.float32(0.5 / np.pi)

    def distance(self, points: Array) -> Array:
        """Radial distance (H, W) from points (3, H, W) to the wall, positive inside the tube."""
        radius, turns = self.polar(points)
        rise = sample(self.relief, turns, points[2] * np.float32(1 / PERIOD))
        room: Array = 1 - rise - radius
        return room


@dataclass(frozen=True)
class Pool:
    """Fluid that has settled on the lower wall, up to a level plane."""

    down: Array  # (3,) unit vector, the direction of gravity
    level: float  # distance of the surface from the origin along `down`
    colour: Array  # (3,) linear BGR of deep fluid
    murk: float  # how fast the wall below disappears with depth

    def distance(self, points: Array) -> Array:
        """Height (H, W) of points (3, H, W) above the fluid."""
        above: Array = np.float32(self.level) - dot(self.down, points)
        return above


def grow_lumen(rng: np.random.Generator) -> Lumen:
    """Draw a tube: its bends, three soft corners, crescent folds and broad unevenness."""
    rows, columns = _RELIEF_SHAPE
    z = (np.arange(rows, dtype=np.float32)[:, None] + 0.5) * np.float32(PERIOD / rows)
    angle = (np.arange(columns, dtype=np.float32)[None] + 0.5) * np.float32(2 * np.pi / columns)
    # Three bands of muscle (the taeniae) make the cross-section a rounded triangle.
    twist = rng.uniform(0, 2 * np.pi) + 0.4 * np.sin(z * np.float32(2 * np.pi / PERIOD))
    relief = rng.uniform(0.02, 0.12) * np.cos(3 * angle + twist)
    relief = relief + rng.uniform(0.03, 0.13) * fractal_noise(rng, _RELIEF_SHAPE, (8, 4), 3, 0.4)
    relief = relief + _folds(rng)
    bends = np.array(
        [
            [*rng.normal(0, spread, 2), rng.uniform(0.9, 1.2) * frequency, rng.uniform(0, 6.28)]
            for spread, frequency in ((0.75, 0.45), (0.22, 1.1))
        ],
        np.float32,
    )
    return Lumen(np.ascontiguousarray(relief, dtype=np.float32), bends)


def _around(rng: np.random.Generator) -> Array:
    """Smooth noise (columns,) that closes on itself around the tube; deviation about 1."""
    angle = np.linspace(0, 2 * np.pi, _RELIEF_SHAPE[1], endpoint=False)
    order = np.arange(1, 6)[:, None]
    waves = np.cos(order * angle + rng.uniform(0, 2 * np.pi, (5, 1)))
    noise: Array = (rng.standard_normal((5, 1)) / order * waves).sum(axis=0).astype(np.float32)
    return noise


def _folds(rng: np.random.Generator) -> Array:
    """Rise of the haustral folds: each a crest that wanders along z and fades along the angle."""
    rows = _RELIEF_SHAPE[0]
    tallest = rng.uniform(0.15, 0.55)
    spacing = rng.uniform(0.6, 1.5)
    warp = rng.uniform(0.05, 0.2) * fractal_noise(rng, _RELIEF_SHAPE, (16, 8))
    window = np.arange(rows // 4) - rows // 8
    rise = np.zeros(_RELIEF_SHAPE, np.float32)
    for index in range(int(PERIOD / spacing)):
        middle = int((index + rng.uniform(-0.3, 0.3)) * spacing * rows / PERIOD)
        wander = _around(rng) * rng.uniform(0.02, 0.16)
        crescent = smoothstep(-1.0, 1.2, _around(rng))
        near = (window + middle) % rows
        offset = (window * np.float32(PERIOD / rows))[:, None] - wander + warp[near]
        height = tallest * rng.uniform(0.6, 1.0)
        width = rng.uniform(0.3, 0.6) * height + 0.03  # steeper folds would defeat the ray marcher
        crest = crescent / (1 + (offset / width) ** 2) ** 2
        rise[near] = np.maximum(rise[near], height * crest)
    return rise


def fill_pool(rng: np.random.Generator, passed: Sequence[Array]) -> Pool | None:
    """Draw the fluid, which three colons in ten have, below the points (3,) that the tip passes."""
    wanted = rng.uniform() < 0.3
    angle = rng.uniform(0, 2 * np.pi)
    down = np.array([np.cos(angle), np.sin(angle), 0], np.float32)
    level = max(float(point @ down) for point in passed) + rng.uniform(0.35, 0.75)
    colour = linear(_FLUIDS[rng.integers(len(_FLUIDS))])
    murk = float(np.exp(rng.uniform(np.log(2), np.log(10))))
    return Pool(down, level, colour, murk) if wanted else None
