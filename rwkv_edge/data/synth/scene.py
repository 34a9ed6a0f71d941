"""Everything in front of the lens, and its photograph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .camera import Lens, Pose
from .light import Lamp, Surface, lit_share, shade
from .lumen import Lumen, Pool
from .march import FAR, gradient, trace
from .mucosa import Mucosa
from .polyp import Polyp
from .vectors import Array, dot, gather, grid, sample, smooth_min, smoothstep, unit


@dataclass(frozen=True)
class Scene:
    """Geometry, skin and light."""

    lumen: Lumen
    mucosa: Mucosa
    pool: Pool | None
    polyps: tuple[Polyp, ...]
    lamp: Lamp

    def tissue(self, points: Array) -> Array:
        """Distance (H, W) from points (3, H, W) to the wall with its polyps."""
        wall = nearest = self.lumen.distance(points)
        for polyp in self.polyps:
            joined = smooth_min(wall, polyp.distance(points), polyp.fillet)
            nearest = np.minimum(nearest, joined)
        return nearest

    def distance(self, points: Array) -> Array:
        """Distance (H, W) from points (3, H, W) to whatever is nearest."""
        nearest = self.tissue(points)
        return nearest if self.pool is None else np.minimum(nearest, self.pool.distance(points))

    def owner(self, points: Array) -> NDArray[np.int8]:
        """Which polyp each surface point (3, H, W) belongs to, from 0; -1 elsewhere."""
        nearest = self.lumen.distance(points)
        if self.pool is not None:
            nearest = np.minimum(nearest, self.pool.distance(points))
        owner = np.full(nearest.shape, -1, np.int8)
        for index, polyp in enumerate(self.polyps):
            away = polyp.distance(points)
            owner[away < nearest] = index
            nearest = np.minimum(nearest, away)
        return owner


def photograph(
    scene: Scene, pose: Pose, lens: Lens, height: int, width: int
) -> tuple[Array, NDArray[np.int8]]:
    """Linear light (H, W, 3), and which polyp each pixel shows (H, W), from 0, else -1."""
    rays, distance = trace(scene.distance, pose, lens, height, width)
    points = pose.origin[:, None, None] + rays * distance
    normals = gradient(scene.distance, points)
    averted = np.maximum(dot(normals, rays), 0)
    normals = unit(normals - rays * averted)  # what is seen faces the eye, even at an outline
    surface = _surface(scene, points, normals, rays, distance)
    guides = pose.origin + scene.lamp.guides @ pose.axes
    lit = [lit_share(scene.tissue, points, normals, guide) for guide in guides]
    cone = np.maximum(lens.rays(height, width)[2], 0.02) ** np.float32(scene.lamp.focus)
    light = shade(surface, cone, guides, lit, scene.lamp)
    light *= smoothstep(FAR, 0.3 * FAR, distance)[..., None]
    return light, scene.owner(points)


def _surface(scene: Scene, points: Array, normals: Array, rays: Array, distance: Array) -> Surface:
    """Dress the points: wall, then polyps, then fluid."""
    albedo, tilt = _wall(scene, points, distance)
    gloss = np.ones_like(distance)
    dry = np.ones(distance.shape, np.bool_)
    if scene.pool is not None:
        dry = scene.pool.distance(points) > 0.005
    wall_distance = scene.lumen.distance(points)
    for polyp in scene.polyps:
        # Positive where the polyp is nearer than the wall; the skin changes across the fillet.
        lead = (wall_distance - polyp.distance(points)) / np.float32(polyp.fillet)
        share = smoothstep(-0.6, 0.5, lead) * dry
        here = np.flatnonzero(share)
        if not here.size:
            continue
        here = grid(here)
        weight = share.ravel()[here]
        flat_albedo, flat_tilt = albedo.reshape(-1, 3), tilt.reshape(3, -1)
        colour, bumps = polyp.paint(gather(points, here), flat_albedo[here])
        flat_albedo[here] += (colour - flat_albedo[here]) * weight[..., None]
        flat_tilt[:, here] += (bumps - flat_tilt[:, here]) * weight
        gloss.ravel()[here] += (polyp.gloss - 1) * weight
    if scene.pool is not None:
        depth = np.maximum(scene.tissue(points), 0) * ~dry
        murk = 1 - np.exp(-np.float32(scene.pool.murk) * depth)
        albedo += (scene.pool.colour - albedo) * murk[..., None]
        tilt *= np.where(dry, np.float32(1), np.float32(0.15))
    return Surface(
        points=points,
        rays=rays,
        distance=distance,
        normals=unit(normals - np.float32(0.35) * tilt),
        film=unit(normals - tilt),
        albedo=albedo,
        gloss=gloss,
        openness=_openness(scene, points, normals),
    )


def _wall(scene: Scene, points: Array, distance: Array) -> tuple[Array, Array]:
    """Albedo (H, W, 3) of the mucosa and the tilt (3, H, W) of its fine relief."""
    mucosa = scene.mucosa
    x, y = scene.lumen.centre(points[2])
    radius, turns = scene.lumen.polar(points)
    # Depth plus rise: the faces of folds, along which the depth hardly changes, are not smeared.
    depth = (points[2] + 1 - radius) * np.float32(0.5 / np.pi)
    # Far away a pixel spans many texels: fade to the mean instead of flickering.
    sharp = np.exp(-((distance / np.float32(3.5)) ** 2))
    albedo = mucosa.skin + (sample(mucosa.albedo, turns, depth) - mucosa.skin) * sharp[..., None]
    slopes = sample(mucosa.relief, turns, depth) * sharp[..., None]
    around = np.stack([y - points[1], points[0] - x, np.zeros_like(x)]) / radius
    tilt = around * slopes[..., 0]
    tilt[2] += slopes[..., 1]
    return albedo, tilt


def _openness(scene: Scene, points: Array, normals: Array) -> Array:
    """How much room (H, W) the points have in front of them: 0 in a crevice, 1 in the open."""
    near, far = np.float32(0.06), np.float32(0.25)
    room: Array = scene.tissue(points + normals * near) / near
    room += scene.tissue(points + normals * far) / far
    openness: Array = np.clip(room / 2, 0, 1)
    return openness
