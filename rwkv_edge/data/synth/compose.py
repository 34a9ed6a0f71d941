"""Draws a whole examination from one seed: the colon, the endoscope, its path and the polyps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from .camera import Lens, Pose, draw_lens, field_of_view
from .light import draw_lamp
from .lumen import Lumen, fill_pool, grow_lumen
from .march import first_hit, gradient
from .mucosa import grow_mucosa
from .path import Path, approach, stand_still
from .polyp import Polyp, grow_polyp
from .scene import Scene
from .sensor import Sensor, draw_sensor

_FARTHEST = 2.6  # radii at which a polyp is still worth placing
_NEAREST = 0.12  # radii between the lens and any polyp


@dataclass(frozen=True)
class Shot:
    """A scene and the camera that films it."""

    scene: Scene
    lens: Lens
    sensor: Sensor
    view: NDArray[np.uint8]  # (H, W), 255 inside the field of view
    path: Path


def compose_still(seed: int, size: tuple[int, int], polyps: int | None) -> Shot:
    """Draw the shot of one image of `size` (height, width)."""
    odds = (0.08, 0.66, 0.17, 0.09)
    return _compose(seed, size, polyps, stand_still, [0.0], odds, area=(0.02, 0.5))


def compose_clip(seed: int, size: tuple[int, int], seconds: float, polyps: int | None) -> Shot:
    """Draw the shot of a clip that approaches the first polyp and draws back again."""
    moments = [seconds * share for share in (0.5, 0.05, 0.3, 0.75, 0.95)]

    def draw_path(rng: np.random.Generator, lumen: Lumen) -> Path:
        return approach(rng, lumen, moments)

    odds = (0.0, 0.7, 0.2, 0.1)
    return _compose(seed, size, polyps, draw_path, moments, odds, area=(0.08, 0.25))


def _compose(
    seed: int,
    size: tuple[int, int],
    polyps: int | None,
    draw_path: Callable[[np.random.Generator, Lumen], Path],
    moments: Sequence[float],
    odds: Sequence[float],
    area: tuple[float, float],
) -> Shot:
    """`odds` are those of 0 to 3 polyps, `area` the share of the frame that one may cover."""
    # Each part draws from its own stream: the number of polyps changes nothing but the polyps.
    streams = map(np.random.default_rng, np.random.SeedSequence(seed).spawn(6))
    for_colon, for_skin, for_light, for_path, for_camera, for_polyps = streams
    lumen = grow_lumen(for_colon)
    path = draw_path(for_path, lumen)
    scene = Scene(
        lumen=lumen,
        mucosa=grow_mucosa(for_skin, _texels(size)),
        pool=fill_pool(for_colon, [path.pose(moment).origin for moment in moments]),
        polyps=(),
        lamp=draw_lamp(for_light),
    )
    lens, sensor = draw_lens(for_camera), draw_sensor(for_camera)
    shot = Shot(scene, lens, sensor, field_of_view(for_camera, *size), path)
    drawn = int(for_polyps.choice(4, p=odds))
    for index in range(drawn if polyps is None else polyps):
        # Only the first has to stay in view; the others pass by.
        poses = [path.pose(moment) for moment in (moments if index == 0 else moments[:1])]
        polyp = _plant(shot, for_polyps, poses, area)
        shot = replace(shot, scene=replace(shot.scene, polyps=(*shot.scene.polyps, polyp)))
    return shot


def _texels(size: tuple[int, int]) -> int:
    """A power of two: at least 2.5 texels a pixel, as the tube spans several frames around."""
    enough = 1 << (5 * max(size) // 2 - 1).bit_length()
    return min(max(enough, 512), 2048)


def _plant(
    shot: Shot, rng: np.random.Generator, poses: Sequence[Pose], area: tuple[float, float]
) -> Polyp:
    """Draw polyps until one shows well from all `poses`, and hides none that the scene has."""
    best: Polyp | None = None
    most = -1.0
    for attempt in range(16):
        polyp = _draw_polyp(shot, rng, poses[0], area, at_target=attempt < 4)
        shares = [_least_share(shot, pose, polyp) for pose in poses]
        if best is None or min(shares) > most:
            best, most = polyp, min(shares)
        if most > area[0] / 3:
            break
    assert best is not None
    return best


def _draw_polyp(
    shot: Shot, rng: np.random.Generator, pose: Pose, area: tuple[float, float], at_target: bool
) -> Polyp:
    """A polyp at the path's target, or wherever a ray through a random pixel meets the wall.

    `area` bounds the share of the frame that it covers from `pose`, as far as the wall has room.
    """
    height, width = shot.view.shape
    lumen = shot.scene.lumen
    if at_target and shot.path.target is not None and not shot.scene.polyps:
        base = shot.path.target
        away = float(np.linalg.norm(base - pose.origin))
    else:
        for _ in range(30):
            x, y = int(rng.uniform(0.1, 0.9) * width), int(rng.uniform(0.1, 0.9) * height)
            ray = pose.to_world(shot.lens.towards(x, y, height, width))
            away = float(first_hit(lumen.distance, pose.origin, ray)[0, 0])
            if shot.view[y, x] and away < _FARTHEST:
                break
        base = pose.origin + ray[:, 0, 0] * np.float32(away)
    share = np.exp(rng.uniform(*np.log(area)))
    pixels = np.sqrt(share * height * width / np.pi)
    half_angle = pixels * shot.lens.radians_per_pixel(height, width)
    half_width = float(min(away * np.tan(min(half_angle, 0.7)), 0.55 * away, 0.7))
    inward = gradient(lumen.distance, base[:, None, None])[:, 0, 0]
    return grow_polyp(rng, base, inward, half_width, shot.scene.mucosa.skin)


def _least_share(shot: Shot, pose: Pose, polyp: Polyp) -> float:
    """Share of the frame that the least visible polyp shows; 0 where `polyp` fits badly."""
    others = shot.scene.polyps
    for other in others:
        if np.linalg.norm(polyp.base - other.base) < 0.7 * (polyp.reach + other.reach):
            return 0.0
    if polyp.distance(pose.origin[:, None, None])[0, 0] < _NEAREST:
        return 0.0
    scene = replace(shot.scene, polyps=(*others, polyp))
    height, width = shot.view.shape
    scale = max(1, max(height, width) // 48)
    rays = pose.to_world(shot.lens.rays(height, width, scale))
    reached = first_hit(scene.distance, pose.origin, rays)
    owner = scene.owner(pose.origin[:, None, None] + rays * reached)
    view = cv2.resize(shot.view, owner.shape[::-1], interpolation=cv2.INTER_NEAREST)
    owner[view == 0] = -1
    return min(float(np.mean(owner == index)) for index in range(len(scene.polyps)))
