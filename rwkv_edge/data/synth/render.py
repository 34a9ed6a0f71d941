"""Labelled images and clips from seeds: the public face of the generator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rwkv_edge.errors import UsageError
from rwkv_edge.preprocess import MAX_SIDE

from .camera import Pose
from .compose import Shot, compose_clip, compose_still
from .march import first_hit
from .scene import photograph
from .sensor import develop

_SHUTTER = 1 / 60  # seconds that the shutter is open


@dataclass(frozen=True)
class SynthFrame:
    """One rendered frame and its exact label."""

    image: NDArray[np.uint8]  # (H, W, 3) BGR, black outside the field of view
    mask: NDArray[np.uint8]  # (H, W), 255 on polyps, 0 elsewhere
    polyps: int  # how many the scene holds, visible or not


def check_arguments(seed: int, size: tuple[int, int], polyps: int | None) -> None:
    """Refuse a seed, a size (height, width) or a number of polyps that cannot be rendered."""
    if seed < 0:
        raise UsageError(f"the seed must not be negative, not {seed}")
    if min(size) < 32:
        raise UsageError(f"an image must be at least 32 pixels each way, not {size[0]} x {size[1]}")
    if max(size) > MAX_SIDE:
        raise UsageError(
            f"an image has at most {MAX_SIDE} pixels each way, not {size[0]} x {size[1]}"
        )
    if polyps is not None and not 0 <= polyps <= 3:
        raise UsageError(f"a scene holds 0 to 3 polyps, not {polyps}")


def render_image(
    seed: int, size: tuple[int, int] = (256, 256), polyps: int | None = None
) -> SynthFrame:
    """Render one labelled image of `size` (height, width).

    `polyps` is 0 to 3, or None to draw it, mostly 1. The same arguments give the same pixels.
    """
    check_arguments(seed, size, polyps)
    shot = compose_still(seed, size, polyps)
    rng = np.random.default_rng((seed, 0))
    jolted = rng.uniform() < 0.2
    smear = rng.normal(0, 0.008 * size[0], 2) * jolted
    return _film(shot, shot.path.pose(0.0), smear, rng)


def render_clip(
    seed: int,
    frames: int,
    size: tuple[int, int] = (480, 640),
    fps: float = 25.0,
    polyps: int | None = None,
) -> Iterator[SynthFrame]:
    """Render `frames` consecutive frames of `size` (height, width), `fps` a second.

    The endoscope approaches the first polyp for six seconds, draws back for six, and so on.
    `polyps` is 0 to 3, or None to draw 1 to 3.
    """
    check_arguments(seed, size, polyps)
    if frames < 1 or not fps > 0:
        raise UsageError(
            f"a clip needs a frame and a positive rate, not {frames} at {fps} a second"
        )
    return _film_clip(compose_clip(seed, size, frames / fps, polyps), seed, frames, fps)


def _film_clip(shot: Shot, seed: int, frames: int, fps: float) -> Iterator[SynthFrame]:
    height, width = shot.view.shape
    for index in range(frames):
        pose, after = shot.path.pose(index / fps), shot.path.pose(index / fps + _SHUTTER)
        turned = after.axes @ pose.axes[2]
        smear = -turned[:2] / shot.lens.radians_per_pixel(height, width)
        yield _film(shot, pose, smear, np.random.default_rng((seed, index)))


def _film(
    shot: Shot, pose: Pose, smear: NDArray[np.floating], rng: np.random.Generator
) -> SynthFrame:
    height, width = shot.view.shape
    light, owner = photograph(shot.scene, pose, shot.lens, height, width)
    image = develop(light, _meter(shot, pose), smear, shot.view, shot.sensor, rng)
    mask = np.where((owner >= 0) & (shot.view > 0), 255, 0).astype(np.uint8)
    return SynthFrame(image, mask, len(shot.scene.polyps))


def _meter(shot: Shot, pose: Pose) -> float:
    """Automatic exposure by the inverse square, between what is typical and what is near."""
    height, width = shot.view.shape
    rays = pose.to_world(shot.lens.rays(height, width, max(1, max(height, width) // 40)))
    distance = first_hit(shot.scene.distance, pose.origin, rays)
    return 2.4 * float(np.minimum(distance, 2.0).mean() * np.quantile(distance, 0.15))
