"""Reading one image or mask from disk: in the right colours, or one line that says why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rwkv_edge.config import MASK_THRESHOLD
from rwkv_edge.data.formats import Pixels, decode_image, decode_mask, is_lossy, is_whole
from rwkv_edge.errors import DataError
from rwkv_edge.preprocess import UInt8Array

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
COLOUR_SPREAD = 64
"""A mask whose channels differ by more is coloured; JPEG's noise on grey stays well below."""


def read_image(path: Path) -> UInt8Array:
    """Read a colour image.

    Returns:
        (h, w, 3) uint8 BGR. Grey becomes three equal planes, transparency is dropped, and 10, 12 or
        16 bits, judged by the brightest pixel, are reduced to 8.

    Raises:
        DataError: missing, empty, damaged, not an image, too small or too large.
    """
    content = _read_whole(path)
    try:
        pixels = _image_levels(decode_image(content))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    return np.ascontiguousarray(pixels[:, :, :3])


def read_mask(path: Path) -> UInt8Array:
    """Read a mask as it is stored: grey levels or class indices.

    A coloured palette, as PASCAL VOC's, gives the indices into it; a palette of greys, the greys.

    Returns:
        (h, w) uint8.

    Raises:
        DataError: missing, empty, damaged, not an image, too small or too large, coloured,
            transparent, or turned by its Exif orientation.
    """
    content = _read_whole(path)
    try:
        pixels, palette = decode_mask(content)
        if palette is not None:
            pixels = _indices_or_greys(pixels, palette)
        return np.ascontiguousarray(_single_plane(_mask_levels(pixels)))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def changes_levels(path: Path) -> bool:
    """Tell whether a mask's format is lossy, so that levels come back near what was stored.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return is_lossy(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error


def _read_whole(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    if not content:
        raise DataError(f"{path}: the file is empty (0 bytes)")
    if not is_whole(content):
        raise DataError(f"{path}: the file is truncated or damaged; copy it again from its source")
    return content


def _image_levels(pixels: Pixels) -> UInt8Array:
    if pixels.dtype == np.uint16:  # such files often hold 10 or 12 bits
        pixels = (pixels >> max(0, int(pixels.max()).bit_length() - 8)).astype(np.uint8)
    return _to_uint8(pixels)


def _mask_levels(pixels: Pixels) -> UInt8Array:
    if pixels.dtype == np.uint16:
        highest = int(pixels.max())
        if 255 < highest < 2**15:
            raise DataError(
                f"values up to {highest}; a mask holds class indices below 256, or grey levels"
            )
        pixels = (pixels >> (8 if highest > 255 else 0)).astype(np.uint8)
    return _to_uint8(pixels)


def _to_uint8(pixels: Pixels) -> UInt8Array:
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * 255
    if pixels.dtype == np.uint8:
        return pixels
    raise DataError(f"pixels of type {pixels.dtype}; 8 or 16 bits unsigned are needed")


def _indices_or_greys(indices: Pixels, palette: UInt8Array) -> UInt8Array:
    if (palette == palette[:, :1]).all():
        levels = np.zeros(256, np.uint8)
        levels[: len(palette)] = palette[:, 0]
        return levels[indices]
    highest = int(indices.max())
    if highest > MASK_THRESHOLD:  # taken for white in a binary mask
        raise DataError(
            f"palette index {highest} ('void' in PASCAL VOC) is no class; give those pixels one"
        )
    return indices.astype(np.uint8)


def _single_plane(pixels: UInt8Array) -> UInt8Array:
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] == 4 and pixels[:, :, 3].min() < 255:
        raise DataError("a transparent mask; store it as one opaque grey plane")
    colour = pixels[:, :, :3].astype(np.int16)
    if int((colour.max(2) - colour.min(2)).max()) > COLOUR_SPREAD:
        raise DataError("a coloured mask; store class indices as one grey plane")
    # the brightest, since one plane may lack the class: red alone holds VOC's (64, 0, 0)
    highest: UInt8Array = pixels[:, :, :3].max(2)
    return highest
