"""A whole split decoded once, letterboxed to the network's size, in memory or in a mapped file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from rwkv_edge.data.pairs import Pair, read_all
from rwkv_edge.errors import DataError
from rwkv_edge.files import atomic_path
from rwkv_edge.preprocess import Letterbox, UInt8Array


def array_bytes(count: int, size: tuple[int, int]) -> int:
    """Return what `count` images of this height and width take, with their masks."""
    return count * size[0] * size[1] * 4


def load_arrays(
    pairs: Sequence[Pair],
    num_classes: int,
    size: tuple[int, int],
    on_progress: Callable[[], None] | None = None,
    folder: Path | None = None,
) -> tuple[UInt8Array, UInt8Array]:
    """Read and letterbox every pair.

    Args:
        pairs: what to read.
        num_classes: as in `read_pair`.
        size: height and width in pixels.
        on_progress: called after each pair that is read.
        folder: keep the arrays in a file there, mapped into memory, so that they need not fit. A
            file of the same pairs that is there already is mapped as it is.

    Returns:
        (N, H, W, 3) uint8 BGR images and (N, H, W) uint8 class labels.

    Raises:
        DataError: lists every pair that cannot be used.
        OutputError: no room for the file.
    """
    shape = (len(pairs), array_bytes(1, size))
    if folder is None:
        records = np.empty(shape, np.uint8)
        _fill(records, pairs, num_classes, size, on_progress)
        return _planes(records, size)
    path = folder / f"{_fingerprint(pairs, num_classes, size)}.pictures"
    if not path.is_file():
        with atomic_path(path) as temporary:
            _reserve(temporary, shape[0] * shape[1])
            mapped = np.memmap(temporary, np.uint8, "r+", shape=shape)
            _fill(mapped, pairs, num_classes, size, on_progress)
            mapped.flush()
    return _planes(np.memmap(path, np.uint8, "c", shape=shape), size)


def _planes(records: UInt8Array, size: tuple[int, int]) -> tuple[UInt8Array, UInt8Array]:
    """Views of (N, bytes) records, each a picture and then its mask: one place on the disk."""
    images, masks = np.split(records, [size[0] * size[1] * 3], axis=1)
    return images.reshape(-1, *size, 3), masks.reshape(-1, *size)


def _fill(
    records: UInt8Array,
    pairs: Sequence[Pair],
    num_classes: int,
    size: tuple[int, int],
    on_progress: Callable[[], None] | None,
) -> None:
    images, masks = _planes(records, size)
    filled = 0

    def keep(image: UInt8Array, mask: UInt8Array) -> None:
        nonlocal filled
        letterbox = Letterbox.fit((image.shape[0], image.shape[1]), size)
        images[filled] = letterbox.apply(image)
        # INTER_NEAREST takes the corner of each cell: masks half a pixel beside their pictures
        masks[filled] = letterbox.apply(mask, interpolation=cv2.INTER_NEAREST_EXACT)
        filled += 1

    read_all(pairs, num_classes, keep, on_progress)


def _fingerprint(pairs: Sequence[Pair], num_classes: int, size: tuple[int, int]) -> str:
    """Name what the arrays depend on; a file that was changed since has another time or length."""
    digest = hashlib.sha256(repr((num_classes, size)).encode())
    for path in (path for pair in pairs for path in (pair.image, pair.mask)):
        try:
            state = path.stat()
        except OSError as error:
            raise DataError(f"{path}: {error.strerror or error}") from error
        digest.update(repr((str(path), state.st_size, state.st_mtime_ns)).encode())
    return digest.hexdigest()[:16]


def _reserve(path: Path, size: int) -> None:
    """Take the room at once: writing to a mapped file on a full disk kills the process."""
    with path.open("r+b") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
