"""A whole split decoded once, letterboxed to the network's size and kept in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from rwkv_edge.data.pairs import Pair, read_all
from rwkv_edge.preprocess import Letterbox, UInt8Array


def load_arrays(
    pairs: Sequence[Pair],
    num_classes: int,
    size: tuple[int, int],
    on_progress: Callable[[], None] | None = None,
) -> tuple[UInt8Array, UInt8Array]:
    """Read and letterbox every pair.

    Args:
        pairs: what to read.
        num_classes: as in `read_pair`.
        size: height and width in pixels.
        on_progress: called after each pair.

    Returns:
        (N, H, W, 3) uint8 BGR images and (N, H, W) uint8 class labels.

    Raises:
        DataError: lists every pair that cannot be used.
    """
    images = np.empty((len(pairs), *size, 3), np.uint8)
    masks = np.empty((len(pairs), *size), np.uint8)
    filled = 0

    def keep(image: UInt8Array, mask: UInt8Array) -> None:
        nonlocal filled
        letterbox = Letterbox.fit((image.shape[0], image.shape[1]), size)
        images[filled] = letterbox.apply(image)
        masks[filled] = letterbox.apply(mask, interpolation=cv2.INTER_NEAREST)
        filled += 1

    read_all(pairs, num_classes, keep, on_progress)
    return images, masks
