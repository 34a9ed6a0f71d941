"""From light to a video frame: exposure, lens, noise, processor and compression."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .vectors import Array


@dataclass(frozen=True)
class Sensor:
    """One camera head with its processor."""

    brightness: float  # what the automatic exposure aims at
    balance: Array  # (3,) BGR gains
    contrast: float  # exponent of the display curve
    softness: float  # sigma of the lens blur, in pixels of a 480-row frame
    sharpening: float  # the processor's edge enhancement
    noise: float  # deviation at mid grey, in display units
    quality: int  # of the JPEG that the recorder keeps


def draw_sensor(rng: np.random.Generator) -> Sensor:
    """Draw a camera."""
    warmth = rng.normal(0, 0.05)
    return Sensor(
        brightness=np.exp(rng.normal(0, 0.22)),
        balance=np.array([1 - warmth, 1 + rng.normal(0, 0.025), 1 + warmth], np.float32),
        contrast=rng.uniform(1.7, 2.2),
        softness=rng.uniform(0.3, 1.2),
        sharpening=rng.uniform(0.1, 0.9),
        noise=rng.uniform(0.003, 0.010),
        quality=int(rng.integers(72, 95)),
    )


def develop(
    light: Array,
    exposure: float,
    smear: NDArray[np.floating],
    view: NDArray[np.uint8],
    sensor: Sensor,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Turn linear light (H, W, 3) into a BGR frame (H, W, 3) uint8, black outside `view`.

    `smear` is the motion (x, y) in pixels while the shutter is open.
    """
    height, width = view.shape
    exposed = light * (sensor.balance * np.float32(exposure * sensor.brightness))
    # A film-like shoulder: what is too bright drifts through yellow to white.
    display = (1 - np.exp(-exposed)) ** np.float32(1 / sensor.contrast)
    scale = height / 480
    display = cv2.GaussianBlur(display, (0, 0), max(0.5, sensor.softness * scale))
    if np.hypot(*smear) > 0.7:
        display = cv2.filter2D(display, -1, _streak(*smear), borderType=cv2.BORDER_REPLICATE)
    halo = cv2.GaussianBlur(display, (0, 0), max(0.8, 2.0 * scale))
    display += np.float32(sensor.sharpening) * (display - halo)
    grain = rng.standard_normal((height, width, 1), dtype=np.float32)
    tint = rng.standard_normal((-(-height // 2), -(-width // 2), 3), dtype=np.float32)
    grain = grain + 0.7 * cv2.resize(tint, (width, height))
    display += grain * np.float32(sensor.noise)
    edge = cv2.GaussianBlur(view, (0, 0), max(0.4, 0.8 * scale)).astype(np.float32)[..., None]
    frame = np.clip(display * edge, 0, 255).astype(np.uint8)
    _, packed = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, sensor.quality])
    decoded = cv2.imdecode(packed, cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded.astype(np.uint8, copy=False)


def _streak(x: float, y: float) -> Array:
    """Kernel that averages along the vector (x, y)."""
    reach = int(np.ceil(max(abs(x), abs(y)) / 2)) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    half = np.array([x, y]) * 8  # sixteenths of a pixel, halved
    start = np.round(reach * 16 - half).astype(int)
    end = np.round(reach * 16 + half).astype(int)
    cv2.line(kernel, tuple(start.tolist()), tuple(end.tolist()), 1.0, 1, cv2.LINE_AA, shift=4)
    kernel /= kernel.sum()
    return kernel
