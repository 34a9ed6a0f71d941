"""Polyps: small solids joined smoothly to the wall, with their own skin."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .vectors import (
    Array,
    blur,
    dot,
    fractal_noise,
    gather,
    grid,
    linear,
    sample,
    slopes,
    smooth_min,
    smoothstep,
)

_PALEST = linear(np.array([190, 205, 245], np.float32))
_MELT = np.float32(9)  # larger keeps the blobs of a polyp more apart
_STALK = np.float32(0.4)  # radius of a stalk, in units of the polyp's radii
_TEXELS = 256  # along each side of the skin's textures


@dataclass(frozen=True)
class _Form:
    """One kind of polyp: a blob in the middle and a ring of lesser ones."""

    share: float  # of all polyps
    width: float  # of the unit blob, in half-widths of the polyp
    thickness: tuple[float, float]  # range, in widths
    height: tuple[float, float]  # range of the middle above the wall, in thicknesses
    middle: float  # radius
    ring: tuple[int, int]  # range of the number of lesser blobs
    spread: float  # radius of the ring
    lesser: float  # radius of the lesser blobs
    stalk: bool = False
    nodules: float = 0.2  # how strongly the surface is beset with them


# fmt: off
_FORMS = (
    #     share width thickness     height       middle ring   spread lesser
    _Form(0.34, 1.0, (0.65, 1.00), (-0.3, 0.35), 1.00, (0, 2), 0.35, 0.70),  # sessile dome
    _Form(0.20, 1.0, (0.75, 0.90), (0.25, 0.40), 0.70, (3, 5), 0.55, 0.60),  # lobulated
    _Form(0.14, 1.0, (0.28, 0.42), (0.10, 0.15), 0.75, (3, 6), 0.60, 0.50),  # flat
    _Form(0.12, 1.0, (0.40, 0.65), (0.10, 0.20), 0.75, (3, 6), 0.60, 0.50, nodules=1.0),  # granular
    _Form(0.20, 0.6, (0.90, 1.10), (1.50, 2.40), 1.00, (1, 3), 0.30, 0.75, stalk=True),  # stalked
)
# fmt: on


@dataclass(frozen=True)
class Polyp:
    """A union of blobs in a frame that stands on the wall."""

    base: Array  # (3,) where it grows from the wall
    axes: Array  # (3, 3): rows are two tangents and the direction into the lumen
    radii: Array  # (3,) size along each of the axes
    fillet: float  # radius of the smooth joint with the wall
    blobs: Array  # (n, 4) centre and radius of each blob, in units of `radii`
    stalk: Array | None  # (3,) where the stalk ends, in units of `radii`
    head: Array  # (3,) middle of the head, in units of `radii`
    relief: Array  # (N, N) texture of the surface, mean 0, deviation about 0.6
    relief_depth: float  # in units of `radii`
    pits: Array  # (N, N, 3) texture of the skin: its pattern, about -1..1, and two slopes
    skin: Array  # (3,) linear BGR
    own: float  # 0 wears the colour of the wall around it, 1 only its own
    gloss: float

    @cached_property
    def reach(self) -> float:
        """Radius of a sphere around `base` that holds everything."""
        tips = np.linalg.norm(self.blobs[:, :3] * self.radii, axis=1)
        return float((tips + self.blobs[:, 3] * self.radii.max()).max() * 1.1)

    def _local(self, points: Array) -> Array:
        """Points (3, H, W) in the polyp's frame, in units of `radii`."""
        turn: Array = self.axes / self.radii[:, None]
        local: Array = (turn @ points.reshape(3, -1)).reshape(points.shape)
        local -= (turn @ self.base)[:, None, None]
        return local

    def _skin(self, texture: Array, local: Array) -> Array:
        """Look a texture up by an equal-area map of the head seen from above: no pole pinches it.

        It fades out below, where the map would tear.
        """
        x, y, z = local - self.head[:, None, None]
        length = np.sqrt(x * x + y * y + z * z) + np.float32(1e-6)
        height = z / length
        spread = np.float32(0.5) / (length * np.sqrt(np.maximum(1 + height, np.float32(0.2))))
        found = sample(texture, x * spread, y * spread)
        fade = smoothstep(-0.8, -0.3, height)
        faded: Array = found * (fade if found.ndim == 2 else fade[..., None])
        return faded

    def distance(self, points: Array) -> Array:
        """Distance (H, W) from points (3, H, W) to the surface; only a bound far away."""
        away = points - self.base[:, None, None]
        bound: Array = np.sqrt(dot(away, away)) - np.float32(self.reach)
        # Exact wherever the joint with the wall can feel it.
        near = np.flatnonzero(bound < 1.2 * self.fillet + 0.02)
        if near.size:
            near = grid(near)
            bound.ravel()[near] = self._exact(gather(points, near))
        return bound

    def _exact(self, points: Array) -> Array:
        local = self._local(points)
        # All blobs at once: |p - c|^2 = p.p - 2 p.c + c.c is one matrix product.
        centres, sizes = self.blobs[:, :3], self.blobs[:, 3:]
        squares = -2 * centres @ local.reshape(3, -1)
        squares += dot(local, local).ravel()
        squares += (centres * centres).sum(axis=1, keepdims=True)
        apart = np.sqrt(np.maximum(squares, 0)) - sizes
        # The soft minimum that turns overlapping blobs into one body.
        softest = np.exp(-_MELT * apart).sum(axis=0)
        nearest = np.log(np.maximum(softest, 1e-30)) / -_MELT
        nearest = nearest.reshape(points.shape[1:])
        nearest -= np.float32(self.relief_depth) * self._skin(self.relief, local)
        if self.stalk is not None:
            a, b, c = self.stalk
            x, y, z = local
            along = np.clip((a * x + b * y + c * z) / (self.stalk @ self.stalk), -0.2, 1)
            x, y, z = x - a * along, y - b * along, z - c * along
            nearest = smooth_min(nearest, np.sqrt(x * x + y * y + z * z) - _STALK, 0.4)
        scaled: Array = nearest * self.radii.min()
        return scaled

    def paint(self, points: Array, wall: Array) -> tuple[Array, Array]:
        """Albedo (H, W, 3) and tilt of the relief (3, H, W) of points on the polyp.

        `wall` (H, W, 3) is the albedo that the mucosa would have there.
        """
        skin = self._skin(self.pits, self._local(points))
        pattern, slopes_u, slopes_v = skin[..., :1], skin[..., 1], skin[..., 2]
        own = self.skin * np.exp(pattern * np.array([0.45, 0.5, 0.2], np.float32))
        side, other = self.axes[0][:, None, None], self.axes[1][:, None, None]
        return wall + (own - wall) * np.float32(self.own), side * slopes_u + other * slopes_v


def grow_polyp(
    rng: np.random.Generator, base: Array, inward: Array, size: float, wall: Array
) -> Polyp:
    """Draw a polyp of half-width `size` at `base` (3,), growing along `inward` (3,).

    `wall` (3,) is the mean colour of the mucosa there, linear BGR.
    """
    form = _FORMS[rng.choice(len(_FORMS), p=[form.share for form in _FORMS])]
    up = inward + rng.normal(0, 0.15, 3)
    up /= np.linalg.norm(up)
    side = np.cross(up, rng.normal(size=3))
    side /= np.linalg.norm(side)
    oblong = rng.uniform(0.55, 1.0)
    radii = size * form.width * np.array([1, oblong, rng.uniform(*form.thickness)], np.float32)
    blobs = _blobs(rng, form)
    lumps = 0.6 * fractal_noise(rng, (_TEXELS, _TEXELS), (4, 4), 2)
    lumps += form.nodules * _spots(rng, rng.uniform(14, 28))
    pattern = _pattern(rng)
    ripple = fractal_noise(rng, (_TEXELS, _TEXELS), (32, 32), 3, 0.8)
    steep = slopes(pattern + 0.3 * ripple)
    # Paler or darker, redder or yellower than the wall, and often hardly different.
    pale, red, yellow = np.exp(rng.normal([0.12, 0.15, 0.05], [0.25, 0.25, 0.15]))
    skin = np.minimum(wall * pale * [1 / (red * yellow), 1 / red, 1], _PALEST)
    return Polyp(
        base=base,
        axes=np.stack([side, np.cross(up, side), up]).astype(np.float32),
        radii=radii,
        fillet=rng.uniform(0.4, 0.9) * float(radii.min()),
        blobs=blobs,
        stalk=blobs[0, :3] if form.stalk else None,
        head=blobs[:, :3].mean(axis=0) - np.array([0, 0, 0.2], np.float32),
        relief=lumps,
        relief_depth=rng.uniform(0.02, 0.05),
        pits=np.dstack([pattern, steep * np.float32(rng.uniform(0.06, 0.25) / steep.std())]),
        skin=skin.astype(np.float32),
        own=rng.uniform(0.6, 1.0),
        gloss=rng.uniform(0.5, 1.5),
    )


def _blobs(rng: np.random.Generator, form: _Form) -> Array:
    """Centres and radii (n, 4), the middle first, the ring unevenly spaced and sized."""
    count = int(rng.integers(form.ring[0], form.ring[1] + 1))
    height = rng.uniform(*form.height)
    lean = rng.normal(0, 0.5, 2) if form.stalk else np.zeros(2)
    angle = (np.arange(count) + rng.uniform(-0.3, 0.3, count)) * (2 * np.pi / max(count, 1))
    angle += rng.uniform(0, 2 * np.pi)
    away = form.spread * rng.uniform(0.8, 1.2, count)
    ring = np.stack(
        [
            lean[0] + away * np.cos(angle),
            lean[1] + away * np.sin(angle),
            height + rng.normal(-0.05, 0.08, count),
            form.lesser * rng.uniform(0.75, 1.15, count),
        ],
        axis=1,
    )
    return np.vstack([[*lean, height, form.middle], ring]).astype(np.float32)


def _spots(rng: np.random.Generator, wavelength: float) -> Array:
    """Band-passed noise of one wavelength in texels, -1..1: nodules, pits or convolutions."""
    noise = rng.standard_normal((_TEXELS, _TEXELS), dtype=np.float32)
    band = blur(noise, wavelength / 5) - blur(noise, wavelength / 3)
    spots: Array = np.clip(band / (2 * band.std()), -1, 1)
    return spots


def _pattern(rng: np.random.Generator) -> Array:
    """The skin's pattern: dark dots, a pale net, brain-like convolutions, or almost smooth."""
    band = _spots(rng, rng.uniform(5, 13))
    patterns = (
        -smoothstep(0.25, 0.7, band),
        smoothstep(0.1, 0.6, band),
        smoothstep(-0.2, 0.2, band) - np.float32(0.5),
        np.float32(0.3) * band,
    )
    patches = fractal_noise(rng, (_TEXELS, _TEXELS), (4, 4), 4)
    mixed = rng.uniform(0.3, 1.0) * patterns[rng.integers(len(patterns))]
    return mixed + rng.uniform(0.15, 0.5) * patches
