"""The pictures of a run: its curves, what it trains on, and validation images with both masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from rwkv_edge.config import DEFAULT_CONFIDENCE
from rwkv_edge.drawing import (
    TRUTH_COLOUR,
    draw_contour,
    draw_mask,
    line_width,
    picture_grid,
)
from rwkv_edge.errors import MissingDependencyError
from rwkv_edge.files import atomic_path, write_image
from rwkv_edge.metrics import PixelCounts
from rwkv_edge.preprocess import UInt8Array, to_mask

GRID_IMAGES, GRID_COLUMNS = 24, 6


def draw_curves(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Plot loss, validation Dice and learning rate over the epochs as a PNG.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("matplotlib", "train", "training") from error
    epochs = [row["epoch"] for row in rows]
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    loss, dice, rate = figure.subplots(1, 3)
    loss.plot(epochs, [row["train_loss"] for row in rows], label="training", marker=".")
    loss.plot(epochs, [row["val_loss"] for row in rows], label="validation (average weights)")
    loss.set(title="Dice + cross-entropy loss", xlabel="epoch")
    loss.legend(frameon=False)
    dice.plot(epochs, [row["val_dice"] for row in rows], color="tab:green", marker=".")
    dice.set(title="validation Dice, mean of images", xlabel="epoch")
    rate.plot(epochs, [row["lr"] for row in rows], color="tab:grey")
    rate.set(title="learning rate; image size", xlabel="epoch")
    size = rate.twinx()
    size.step(epochs, [row["imgsz"] for row in rows], color="tab:purple", where="mid")
    size.set_ylabel("pixels", color="tab:purple")
    for axes in (loss, dice, rate):
        axes.grid(alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def draw_training_grid(path: Path, images: UInt8Array, masks: UInt8Array) -> None:
    """Draw augmented training images with their outlines, to be looked at before hours are spent.

    Args:
        path: PNG to write.
        images: (N, H, W, 3) uint8 BGR.
        masks: (N, H, W) uint8 class labels.
    """
    tiles = []
    for image, mask in zip(images, masks, strict=True):
        picture = image.copy()
        draw_contour(picture, (mask > 0).astype(np.uint8), TRUTH_COLOUR, line_width(picture))
        tiles.append((picture, ""))
    write_image(path, picture_grid(tiles, GRID_COLUMNS))


def draw_validation_grid(
    path: Path,
    images: UInt8Array,
    masks: UInt8Array,
    predict: Callable[[UInt8Array], Tensor],
) -> None:
    """Draw validation images with the true outline in white and the prediction in colour.

    Args:
        path: PNG to write.
        images: (N, H, W, 3) uint8 BGR.
        masks: (N, H, W) uint8 class labels.
        predict: from (H, W, 3) uint8 BGR to (classes, H, W) probabilities.
    """
    tiles = []
    chosen = np.linspace(0, len(images) - 1, min(GRID_IMAGES, len(images))).astype(int)
    for index in chosen:
        mask = to_mask(predict(images[index]).numpy(), DEFAULT_CONFIDENCE)
        truth = masks[index]
        picture = draw_mask(images[index], mask)
        draw_contour(picture, (truth > 0).astype(np.uint8), TRUTH_COLOUR, line_width(picture))
        dice = PixelCounts.of(mask, truth).dice
        tiles.append((picture, f"Dice {dice:.3f}"))
    write_image(path, picture_grid(tiles, GRID_COLUMNS))
