"""Tiny pictures and masks, made on the fly, in every form that people store them in."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

VOC_PALETTE = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)]
"""The first colours of PASCAL VOC's palette, RGB."""


def picture(height: int = 48, width: int = 64, seed: int = 0) -> NDArray[np.uint8]:
    """A smooth, reddish (height, width, 3) BGR picture whose three channels differ."""
    coarse = np.random.default_rng(seed).uniform((10, 60, 150), (90, 140, 230), (4, 5, 3))
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.uint8)


def disc(height: int = 48, width: int = 64, radius: int = 12) -> NDArray[np.uint8]:
    """A (height, width) mask, 255 in a disc in the middle."""
    y, x = np.ogrid[:height, :width]
    inside = (y - height / 2) ** 2 + (x - width / 2) ** 2 < radius**2
    return inside.astype(np.uint8) * 255


def save(path: Path, pixels: NDArray[np.generic], *options: int) -> Path:
    """Write pixels in the format of the suffix, as OpenCV does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    good, encoded = cv2.imencode(path.suffix, pixels, list(options))
    assert good
    path.write_bytes(encoded.tobytes())
    return path


def save_pair(
    folder: Path,
    stem: str,
    image: NDArray[np.uint8] | None = None,
    mask: NDArray[np.uint8] | None = None,
) -> None:
    """Write `images/STEM.png` and `masks/STEM.png` below `folder`."""
    save(folder / "images" / f"{stem}.png", picture() if image is None else image)
    save(folder / "masks" / f"{stem}.png", disc() if mask is None else mask)


def save_palette_png(
    path: Path,
    indices: NDArray[np.uint8],
    palette: list[tuple[int, int, int]],
    bits: int = 8,
) -> Path:
    """Write a PNG with a palette, which OpenCV cannot, of 1, 2, 4 or 8 bits a pixel."""
    planes = np.unpackbits(indices[:, :, None], axis=2)[:, :, 8 - bits :]
    rows = np.packbits(planes.reshape(len(indices), -1), axis=1)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    height, width = indices.shape
    chunks = [
        b"IHDR" + struct.pack(">IIBBBBB", width, height, bits, 3, 0, 0, 0),
        b"PLTE" + np.array(palette, np.uint8).tobytes(),
        b"IDAT" + zlib.compress(lines),
        b"IEND",
    ]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
            for chunk in chunks
        )
    )
    return path
