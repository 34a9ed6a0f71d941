"""The wall's skin: colour, vessels, residue, bubbles, and the fine relief that catches light."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .vectors import Array, blur, fractal_noise, linear, slopes, smoothstep

# sRGB colours (BGR, 0..255) of healthy mucosa under different lamps and processors.
_SKINS = np.array(
    [
        [112, 132, 214],  # pink
        [90, 118, 210],  # salmon
        [66, 116, 212],  # orange
        [124, 142, 194],  # pale
        [78, 86, 192],  # red
        [52, 112, 200],  # amber
    ],
    np.float32,
)
_RESIDUES = np.array([[40, 150, 205], [45, 125, 165], [110, 190, 215], [30, 95, 150]], np.float32)


@dataclass(frozen=True)
class Mucosa:
    """Textures over (angle, depth) that repeat once per turn around the tube."""

    albedo: Array  # (N, N, 3) linear BGR
    relief: Array  # (N, N, 2) slopes of the fine relief, rise over run
    skin: Array  # (3,) linear BGR, the mean colour


def grow_mucosa(rng: np.random.Generator, texels: int) -> Mucosa:
    """Draw a wall; its tile has `texels`, a power of two from 512 on, along each side."""
    shape = (texels, texels)
    mix = rng.dirichlet(np.full(len(_SKINS), 0.4)).astype(np.float32)
    skin = linear(mix @ _SKINS)
    cloud = fractal_noise(rng, shape, (4, 4), 6, 0.6)
    blush = fractal_noise(rng, shape, (4, 4), 4, 0.5)
    grain = fractal_noise(rng, shape, (64, 64), 4, 0.8)

    shade = rng.uniform(0.06, 0.2) * cloud + rng.uniform(0.03, 0.09) * grain
    blush *= rng.uniform(0.05, 0.22)
    vessels = _vessels(rng, texels) * rng.beta(1.2, 1.3)
    # Blood, spread or in vessels, absorbs blue and green and lets red pass.
    planes = [
        base * np.exp(shade - spread * blush - inside * vessels)
        for base, spread, inside in zip(skin, (0.9, 1.0, 0.15), (0.95, 1.15, 0.45), strict=True)
    ]
    albedo = np.asarray(cv2.merge(planes), np.float32)
    height = rng.uniform(0.0015, 0.004) * fractal_noise(rng, shape, (64, 64), 3, 0.6)
    if rng.uniform() < 0.5:
        _soil(rng, albedo, height)
    if rng.uniform() < 0.35:
        _foam(rng, albedo, height)
    texel = 2 * np.pi / texels
    return Mucosa(albedo.astype(np.float32), slopes(height) / np.float32(texel), skin)


def _vessels(rng: np.random.Generator, texels: int) -> Array:
    """Trees of vessels, 0..1: each generation thinner, shorter and more winding than its parent."""
    # Drawn on a canvas of two periods and folded back, which wraps whatever crosses the seam.
    canvas = np.zeros((2 * texels, 2 * texels), np.uint8)
    unit = texels / 1024
    steps = 40
    roots = int(rng.integers(15, 60))
    starts = rng.uniform(0.4, 1.6, (roots, 2)) * texels
    heading = rng.uniform(0, 2 * np.pi, roots)
    for generation, children in enumerate((3, 4, 4, 0)):
        stride = rng.uniform(5, 9) * unit * 0.72**generation
        turning = rng.normal(0, 0.16 + 0.07 * generation, (len(starts), steps))
        angles = heading[:, None] + np.cumsum(turning, axis=1)
        moves = np.stack([np.cos(angles), np.sin(angles)], axis=-1) * stride
        paths = starts[:, None] + np.cumsum(moves, axis=1)
        width = max(1, round((4.0, 2.2, 1.2, 1.0)[generation] * unit))
        ink = (255, 215, 170, 120)[generation]
        fixed_point = np.round(paths * 16).astype(np.int32)
        cv2.polylines(canvas, list(fixed_point), False, ink, width, cv2.LINE_AA, shift=4)
        parents = np.repeat(np.arange(len(starts)), children)
        forks = rng.integers(4, steps, len(parents))
        turns = rng.choice([-1, 1], len(parents)) * rng.uniform(0.4, 1.1, len(parents))
        starts, heading = paths[parents, forks], angles[parents, forks] + turns
    halves = np.maximum(canvas[:texels], canvas[texels:])
    folded = np.maximum(halves[:, :texels], halves[:, texels:])
    soft = blur(folded.astype(np.float32) / np.float32(255), max(0.6, rng.uniform(0.5, 1.5) * unit))
    # They dive below the surface and come up again.
    return soft * smoothstep(-1.3, 0.8, fractal_noise(rng, (texels, texels), (4, 4), 3))


def _soil(rng: np.random.Generator, albedo: Array, height: Array) -> None:
    """Lay patches of residue over the wall, in place."""
    patches = fractal_noise(rng, height.shape, (8, 8), 6, 0.65)
    threshold = rng.uniform(0.9, 2.3)
    covered = patches > threshold
    cover = smoothstep(threshold, threshold + 0.35, patches[covered])
    crumbs = fractal_noise(rng, height.shape, (128, 128), 2)[covered]
    height[covered] += cover * (0.012 + 0.0025 * crumbs)
    colour = linear(_RESIDUES[rng.integers(len(_RESIDUES))]) * np.exp(0.2 * crumbs)[:, None]
    opacity = cover[:, None] * rng.uniform(0.5, 0.95)
    albedo[covered] += (colour - albedo[covered]) * opacity


def _foam(rng: np.random.Generator, albedo: Array, height: Array) -> None:
    """Scatter clusters of bubbles, raised caps with a pale rim, in place."""
    texels = len(height)
    for _ in range(int(rng.integers(2, 8))):
        middle = rng.uniform(0.1, 0.9, 2) * texels
        for _ in range(int(rng.integers(5, 40))):
            radius = float(np.exp(rng.uniform(np.log(0.002), np.log(0.011)))) * texels
            place = middle + rng.normal(0, 0.025, 2) * texels
            x, y = np.clip(place, radius + 2, texels - radius - 2)
            top, left, side = int(y - radius), int(x - radius), int(2 * radius) + 2
            box = (slice(top, top + side), slice(left, left + side))
            rows, columns = np.mgrid[box]
            away = np.hypot(rows - y, columns - x) / radius
            cap = np.sqrt(np.maximum(1 - away**2, 0)) * radius * (2 * np.pi / texels)
            rim = np.exp(-(((away - 0.92) / 0.12) ** 2))
            height[box] += 0.7 * cap
            albedo[box] += (1 - albedo[box]) * (0.22 * rim[..., None])
