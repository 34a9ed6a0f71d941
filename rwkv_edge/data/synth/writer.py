"""Writes rendered images and masks as a data set of two folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from rwkv_edge.errors import UsageError
from rwkv_edge.files import make_folder, write_image

from .render import check_arguments, render_image


def write_dataset(
    folder: Path,
    count: int,
    size: tuple[int, int],
    seed: int,
    on_progress: Callable[[int], None] | None = None,
    polyps: int | None = None,
) -> None:
    """Write `count` pairs `images/000000.jpg` and `masks/000000.png` of `size` (height, width).

    Every file appears whole or not at all. `on_progress` hears how many pairs are done; `polyps`
    is 0 to 3 for every image, or None to draw it.
    """
    if count < 1:
        raise UsageError(f"a data set needs at least one image, not {count}")
    check_arguments(seed, size, polyps)
    images, masks = make_folder(folder / "images"), make_folder(folder / "masks")
    for index in range(count):
        # Hashed, so that the data sets of neighbouring seeds have no image in common.
        own_seed = int(np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)[0])
        frame = render_image(own_seed, size, polyps)
        write_image(images / f"{index:06d}.jpg", frame.image)
        write_image(masks / f"{index:06d}.png", frame.mask)
        if on_progress is not None:
            on_progress(index + 1)
