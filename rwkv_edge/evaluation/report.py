"""What an evaluation leaves behind: a table of all images, a picture of the worst."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from math import isfinite
from pathlib import Path

import numpy as np

from rwkv_edge.data.pairs import read_pair
from rwkv_edge.drawing import TRUTH_COLOUR, draw_contour, draw_mask, line_width, picture_grid
from rwkv_edge.evaluation.evaluate import Evaluation, ImageScore
from rwkv_edge.files import write_image
from rwkv_edge.preprocess import UInt8Array

WORST_CASES, GRID_COLUMNS = 12, 4
_NAME_LENGTH = 20
_DETAILS = ("mae", "s_measure", "e_measure", "weighted_f_measure", "hd95")


def per_image_csv(evaluation: Evaluation) -> str:
    """Return a CSV with a row for each image: figures, counts in pixels, lesions, details.

    With several classes, each adds a column `dice_<name>`. What is not defined is left empty.
    """
    several = len(evaluation.names) > 1
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = ["image", "dice", "iou", "precision", "recall"]
    header += ["true_positive", "false_positive", "false_negative", "true_negative"]
    header += ["size", "lesions", "lesions_found", "false_alarms"]
    header += ["dice_network", *_DETAILS]
    header += [f"dice_{name}" for name in evaluation.foreground_names] if several else []
    writer.writerow(header)
    for score in evaluation.scores:
        counts = score.foreground
        figures = [counts.dice, counts.iou, counts.precision, counts.recall]
        pixels = [counts.true_positive, counts.false_positive]
        pixels += [counts.false_negative, counts.true_negative]
        lesions = [score.lesions.lesions, score.lesions.found, score.lesions.false_alarms]
        details = [""] * (1 + len(_DETAILS))
        if score.details:
            values = [getattr(score.details, name) for name in _DETAILS]
            details = _rounded([score.details.network.dice, *values])
        per_class = [of_class.dice for of_class in score.classes] if several else []
        row = [score.pair.name, *_rounded(figures), *pixels, score.size or "none", *lesions]
        writer.writerow([*row, *details, *_rounded(per_class)])
    return text.getvalue()


def draw_worst_cases(
    path: Path, evaluation: Evaluation, segment: Callable[[UInt8Array], UInt8Array]
) -> None:
    """Draw the images of the lowest Dice: prediction in colour, truth outlined in white.

    Args:
        path: PNG to write.
        evaluation: names the images, which are read again.
        segment: from (h, w, 3) uint8 BGR to (h, w) uint8 class labels; asked again rather than
            keeping the masks of a whole data set in memory.

    Raises:
        OutputError: it cannot be written.
    """
    tiles = []
    for score in evaluation.worst(WORST_CASES):
        image, truth = read_pair(score.pair, len(evaluation.names))
        picture = draw_mask(image, segment(image))
        outline = (truth > 0).astype(np.uint8)
        draw_contour(picture, outline, TRUTH_COLOUR, line_width(picture))
        tiles.append((picture, _caption(score)))
    columns = min(GRID_COLUMNS, max(2, len(tiles)))
    write_image(path, picture_grid(tiles, columns, legend="prediction in colour, truth in white"))


def _caption(score: ImageScore) -> str:
    name = score.pair.name
    if len(name) > _NAME_LENGTH:
        half = (_NAME_LENGTH - 2) // 2
        name = f"{name[:half]}..{name[-half:]}"
    return f"Dice {score.foreground.dice:.3f}  {name}"


def _rounded(values: list[float]) -> list[str]:
    return [f"{value:.6f}" if isfinite(value) else "" for value in values]
