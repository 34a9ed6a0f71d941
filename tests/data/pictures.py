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


def exif(orientation: int) -> bytes:
    """Exif that holds nothing but how a picture is turned: 1 not at all, 3 by half, 6 to lie."""
    return struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x112, 3, 1, orientation, 0, 0)


def save_turned(path: Path, pixels: NDArray[np.uint8], orientation: int) -> Path:
    """Write a JPEG, PNG or WebP whose Exif says how it is turned."""
    tag, content = exif(orientation), save(path, pixels).read_bytes()
    if path.suffix == ".jpg":
        segment = b"Exif\0\0" + tag
        head = content[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment
        path.write_bytes(head + content[2:])
    elif path.suffix == ".png":
        path.write_bytes(content[:33] + png_chunk(b"eXIf" + tag) + content[33:])
    else:
        height, width = (side - 1 for side in pixels.shape[:2])
        size = width.to_bytes(3, "little") + height.to_bytes(3, "little")
        chunks = b"VP8X" + struct.pack("<II", 10, 8) + size + content[12:]
        chunks += b"EXIF" + struct.pack("<I", len(tag)) + tag
        path.write_bytes(b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks)
    return path


def png_chunk(body: bytes) -> bytes:
    """Return a chunk of a PNG: its name and data with their length and checksum."""
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


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
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(map(png_chunk, chunks)))
    return path
