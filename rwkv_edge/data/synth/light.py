"""Two light guides beside the lens, wet tissue, and the glow that the colon throws back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .vectors import Array, dot, unit


@dataclass(frozen=True)
class Lamp:
    """The light guides at the tip, and how tissue answers to them."""

    guides: Array  # (n, 3) offsets from the lens in the camera's frame
    focus: float  # exponent of the cone: how fast the light falls off the axis
    glow: float  # share of light that arrives after bouncing around
    bleed: Array  # (3,) BGR: how far light creeps round an edge below the surface
    gloss: float  # strength of the highlights
    polish: float  # exponent of the highlights: larger is smaller and harder


@dataclass(frozen=True)
class Surface:
    """What the rays met, one value per pixel."""

    points: Array  # (3, H, W)
    rays: Array  # (3, H, W) unit, from the lens to the points
    distance: Array  # (H, W) along the rays
    normals: Array  # (3, H, W) unit, on the camera's side
    film: Array  # (3, H, W) unit normals of the wet film, which is rougher
    albedo: Array  # (H, W, 3) linear BGR
    gloss: Array  # (H, W)
    openness: Array  # (H, W), 0 in a crevice, 1 in the open


def draw_lamp(rng: np.random.Generator) -> Lamp:
    """Draw a light source."""
    apart = rng.uniform(0.07, 0.13)
    left, right = rng.uniform(-0.06, 0.06, 2)
    return Lamp(
        guides=np.array([[-apart, left, 0], [apart, right, 0]], np.float32),
        focus=rng.uniform(0.6, 2.0),
        glow=rng.uniform(0.03, 0.1),
        bleed=np.array([0.3, 0.32, 0.5], np.float32) * np.float32(rng.uniform(0.5, 1.2)),
        gloss=float(np.exp(rng.uniform(np.log(0.7), np.log(4)))),
        polish=float(np.exp(rng.uniform(np.log(80), np.log(500)))),
    )


def lit_share(
    field: Callable[[Array], Array], points: Array, normals: Array, guide: Array
) -> Array:
    """Share (H, W) of a light at `guide` (3,) that reaches each point: soft shadows."""
    height, width = points.shape[1:]
    # A quarter of the resolution is enough for shadows this soft.
    start = points[:, 2::4, 2::4] + normals[:, 2::4, 2::4] * np.float32(0.03)
    way = guide[:, None, None] - start
    length = np.sqrt(dot(way, way))
    lit = np.ones_like(length)
    for part in np.linspace(0.03, 0.85, 12, dtype=np.float32) ** np.float32(1.5):
        room = field(start + way * part)
        np.minimum(lit, 0.5 + 8 * room / (length * part + np.float32(0.05)), out=lit)
    soft = cv2.GaussianBlur(np.clip(lit, 0, 1), (0, 0), 1.0)
    return np.asarray(cv2.resize(soft, (width, height)), np.float32)


def shade(surface: Surface, cone: Array, guides: Array, lit: Sequence[Array], lamp: Lamp) -> Array:
    """Light (H, W, 3) that each pixel receives.

    `cone` (H, W) is the lamp's brightness along each ray, `guides` (n, 3) its lights in the world,
    and `lit` (n of (H, W)) the share of each that reaches the surface.
    """
    diffuse = np.zeros_like(surface.albedo)
    highlight = np.zeros_like(surface.distance)
    for guide, share in zip(guides, lit, strict=True):
        way = guide[:, None, None] - surface.points
        arriving = share * cone / (dot(way, way) + np.float32(0.03)) / np.float32(len(guides))
        to_light = unit(way)
        facing = dot(surface.normals, to_light)[..., None]
        diffuse += np.maximum((facing + lamp.bleed) / (1 + lamp.bleed), 0) * arriving[..., None]
        mirrored = np.maximum(dot(surface.film, unit(to_light - surface.rays)), 0)
        highlight += mirrored ** np.float32(lamp.polish) * arriving
    diffuse *= (0.5 + 0.5 * surface.openness)[..., None]
    bounced = surface.openness * cone / (np.float32(0.3) + surface.distance**2)
    # Each bounce takes the colour of the tissue once more, hence the warm shadows.
    diffuse += np.sqrt(surface.albedo) * (np.float32(2 * lamp.glow) * bounced)[..., None]
    light = surface.albedo * diffuse
    light += (np.float32(lamp.gloss) * highlight * surface.gloss)[..., None]
    return light
