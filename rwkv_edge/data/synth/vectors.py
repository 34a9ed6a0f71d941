"""Vector fields, tileable noise and colour: what the rooms of the generator share.

A vector field is a float32 array (3, H, W): whole planes keep NumPy fast. A texture is a float32
array (N, N) or (N, N, C) that repeats without a seam in both directions.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def dot(a: Array, b: Array) -> Array:
    """Scalar product of two vector fields, (H, W)."""
    product: Array = a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
    return product


def unit(a: Array) -> Array:
    """The field scaled to length 1."""
    scaled: Array = a / np.sqrt(np.maximum(dot(a, a), np.float32(1e-12)))
    return scaled


def smoothstep(low: float, high: float, x: Array) -> Array:
    """0 below `low`, 1 above `high`, a smooth ramp between."""
    t = np.clip((x - np.float32(low)) / np.float32(high - low), 0, 1)
    ramp: Array = t * t * (3 - 2 * t)
    return ramp


def smooth_min(a: Array, b: Array, radius: float) -> Array:
    """The smaller of two distances, with the crease between them filled by a fillet of `radius`."""
    h = np.maximum(radius - np.abs(a - b), 0) / np.float32(radius)
    joined: Array = np.minimum(a, b) - h * h * np.float32(radius / 4)
    return joined


def grid(indices: NDArray[np.intp]) -> NDArray[np.intp]:
    """Indices of pixels (n,) as rows of 256, the last filled up by repetition.

    OpenCV looks textures up in images only, and not in very long ones.
    """
    return np.resize(indices, (-(-indices.size // 256), 256))


def gather(field: Array, pixels: NDArray[np.intp]) -> Array:
    """Vectors (3, h, w) of a field (3, H, W) at flat pixel indices (h, w)."""
    return np.take(field.reshape(3, -1), pixels, axis=1)


def linear(srgb: Array) -> Array:
    """8-bit display colour to linear light in 0..1."""
    light: Array = (srgb / np.float32(255)) ** np.float32(2.2)
    return light


def sample(texture: Array, u: Array, v: Array) -> Array:
    """Bilinear look-up at (u, v), both (H, W) in periods of the texture; it repeats for ever."""
    height, width = texture.shape[:2]
    x = (u - np.floor(u)) * np.float32(width) - np.float32(0.5)
    y = (v - np.floor(v)) * np.float32(height) - np.float32(0.5)
    found = cv2.remap(texture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return np.asarray(found, np.float32)


def blur(texture: Array, sigma: float) -> Array:
    """Gaussian blur of a texture that keeps it seamless."""
    margin = min(int(3 * sigma) + 1, *texture.shape[:2])
    wrapped = cv2.copyMakeBorder(texture, margin, margin, margin, margin, cv2.BORDER_WRAP)
    blurred = cv2.GaussianBlur(wrapped, (0, 0), sigma)[margin:-margin, margin:-margin]
    return np.ascontiguousarray(blurred, np.float32)


def slopes(height: Array) -> Array:
    """Central differences (H, W, 2) of a texture along its columns and rows, per texel."""
    along_u = np.roll(height, -1, 1) - np.roll(height, 1, 1)
    along_v = np.roll(height, -1, 0) - np.roll(height, 1, 0)
    both: Array = np.stack([along_u, along_v], axis=-1) * np.float32(0.5)
    return both


def _enlarge(texture: Array, rows: int, columns: int) -> Array:
    """A texture (H, W) magnified by whole factors, seamless and smooth."""
    wrapped = np.pad(texture, 2, mode="wrap")
    grown = cv2.resize(wrapped, None, fx=columns, fy=rows, interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(grown[2 * rows : -2 * rows, 2 * columns : -2 * columns])


def fractal_noise(
    rng: np.random.Generator,
    shape: tuple[int, int],
    cells: tuple[int, int],
    octaves: int = 1,
    gain: float = 0.5,
) -> Array:
    """Seamless smooth noise of `shape`; mean 0, deviation 1.

    The coarsest octave has `cells` random values (rows, columns), each further one twice as many
    and `gain` as strong; the finest must divide `shape`.
    """
    total = rng.standard_normal(cells, dtype=np.float32)
    for octave in range(1, octaves):
        total = _enlarge(total, 2, 2)
        total += rng.standard_normal(total.shape, dtype=np.float32) * np.float32(gain**octave)
    total = _enlarge(total, shape[0] // total.shape[0], shape[1] // total.shape[1])
    total -= total.mean()
    total /= total.std()
    return total
