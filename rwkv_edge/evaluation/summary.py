"""The figures of an evaluation by name, with their confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rwkv_edge.evaluation.bootstrap import Array, Interval, interval, mean_interval
from rwkv_edge.evaluation.calibration import Reliability
from rwkv_edge.evaluation.evaluate import Evaluation, ImageScore
from rwkv_edge.evaluation.regions import SIZES

TITLES = {
    "mean_dice": "mean Dice of the images",
    "mean_iou": "mean IoU of the images",
    "mean_dice_network": "mean Dice at network resolution",
    "mean_iou_network": "mean IoU at network resolution",
    "pooled_dice": "Dice (F1) of all pixels",
    "precision": "precision of all pixels",
    "recall": "recall of all pixels",
    "false_positive_rate": "false-positive rate of all pixels",
    "mae": "mean absolute error",
    "s_measure": "S-measure",
    "e_measure": "E-measure, mean of thresholds",
    "weighted_f_measure": "weighted F-measure",
    "hd95": "HD95 in pixels",
    "lesion_sensitivity": "lesions found",
    "false_alarms_per_image": "false alarms an image",
    "calibration_error": "calibration error (ECE)",
}
"""Every figure, in the order of the table."""


def figures(evaluation: Evaluation) -> dict[str, Interval]:
    """Return every figure of `TITLES` with its interval; the images are what is resampled.

    A figure that is not defined is left out: HD95 where no mask has a pixel, the weighted F-measure
    without scipy, the detailed ones where they were not measured.
    """
    scores = evaluation.scores
    counts = np.array([list(vars(score.foreground).values()) for score in scores], float)
    lesions = np.array([[s.lesions.found, s.lesions.lesions] for s in scores], float)
    found = {
        "mean_dice": mean_interval(_column([s.foreground.dice for s in scores])),
        "mean_iou": mean_interval(_column([s.foreground.iou for s in scores])),
        "pooled_dice": interval(counts, lambda m: _ratio(2 * m[..., 0], _dice_total(m), 1)),
        "precision": interval(
            counts, lambda m: _ratio(m[..., 0], m[..., 0] + m[..., 1], m[..., 2] == 0)
        ),
        "recall": interval(counts, lambda m: _ratio(m[..., 0], m[..., 0] + m[..., 2], 1)),
        "false_positive_rate": interval(
            counts, lambda m: _ratio(m[..., 1], m[..., 1] + m[..., 3], 0)
        ),
        "lesion_sensitivity": interval(lesions, lambda m: _ratio(m[..., 0], m[..., 1], np.nan)),
        "false_alarms_per_image": mean_interval(_column([s.lesions.false_alarms for s in scores])),
    }
    details = [score.details for score in scores if score.details]
    if details:
        reliability = np.stack([d.reliability.probability - d.reliability.lesion for d in details])
        pixels = np.array([[d.reliability.pixels.sum()] for d in details])
        found |= {
            "mean_dice_network": mean_interval(_column([d.network.dice for d in details])),
            "mean_iou_network": mean_interval(_column([d.network.iou for d in details])),
            "calibration_error": interval(
                np.hstack([reliability, pixels]),
                lambda m: np.abs(m[..., :-1]).sum(-1) / m[..., -1],
            ),
        }
        for name in ("mae", "s_measure", "e_measure", "weighted_f_measure", "hd95"):
            found[name] = mean_interval(_column([getattr(d, name) for d in details]))
    known = {name for name, figure in found.items() if np.isfinite(figure.value)}
    return {name: found[name] for name in TITLES if name in known}


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """Return the figures by name for JSON, then their 95 % intervals and what they hide.

    `by_size` has the images by the size of their lesions, `lesion_free` those without one.
    `class_dice` (pooled) and `class_mean_dice` (mean of the images that show or are given the
    class) are there for several classes only.
    """
    scores = evaluation.scores
    named = figures(evaluation)
    result: dict[str, Any] = {"images": len(scores)}
    result |= {name: found.value for name, found in named.items()}
    if len(evaluation.names) > 1:
        per_class = class_mean_dice(evaluation)
        known = [dice for dice in per_class.values() if dice is not None]
        result["class_dice"] = evaluation.class_dice
        result["class_mean_dice"] = per_class
        result["mean_class_dice"] = fmean(known) if known else None
    result["intervals_95"] = {name: [found.low, found.high] for name, found in named.items()}
    result["by_size"] = by_size(scores)
    result["lesion_free"] = lesion_free(scores)
    if all(score.details for score in scores):
        total = pooled_reliability(evaluation)
        result["hd95_images"] = sum(bool(np.isfinite(s.details.hd95)) for s in scores if s.details)
        result["reliability"] = dict(
            zip(("predicted", "observed"), (v.tolist() for v in total.curve()), strict=True)
        )
    return result


def by_size(scores: Sequence[ImageScore]) -> dict[str, dict[str, Any]]:
    """Return Dice and lesions found for the images of each size of `regions.SIZES`."""
    table: dict[str, dict[str, Any]] = {}
    for name, (low, high) in SIZES.items():
        chosen = [score for score in scores if score.size == name]
        row: dict[str, Any] = {"area_share": [low, high], "images": len(chosen)}
        if chosen:
            dice = mean_interval(_column([score.foreground.dice for score in chosen]))
            lesions = sum(score.lesions.lesions for score in chosen)
            row["mean_dice"], row["interval_95"] = dice.value, [dice.low, dice.high]
            row["lesions"] = lesions
            row["lesions_found"] = sum(score.lesions.found for score in chosen)
        table[name] = row
    return table


def lesion_free(scores: Sequence[ImageScore]) -> dict[str, Any]:
    """Return how often, and on how much of the image, a lesion was seen where there is none."""
    chosen = [score.lesions for score in scores if score.size is None]
    if not chosen:
        return {"images": 0}
    return {
        "images": len(chosen),
        "with_false_alarm": fmean(counts.false_alarms > 0 for counts in chosen),
        "false_area": fmean(counts.false_area for counts in chosen),
    }


def class_mean_dice(evaluation: Evaluation) -> dict[str, float | None]:
    """Return per class the mean Dice of the images that show it, or are said to; None: no image."""
    result: dict[str, float | None] = {}
    columns = zip(*(score.classes for score in evaluation.scores), strict=True)
    for name, column in zip(evaluation.foreground_names, columns, strict=True):
        dice = [c.dice for c in column if c.true_positive + c.false_positive + c.false_negative]
        result[name] = fmean(dice) if dice else None
    return result


def pooled_reliability(evaluation: Evaluation) -> Reliability:
    """Return the reliability of all pixels; `evaluate` must have measured it."""
    first, *rest = [score.details.reliability for score in evaluation.scores if score.details]
    return sum(rest, first)


def _column(values: Sequence[float]) -> Array:
    return np.array(values, float)


def _dice_total(means: Array) -> Array:
    total: Array = 2 * means[..., 0] + means[..., 1] + means[..., 2]
    return total


def _ratio(part: Array, whole: Array, empty: float | NDArray[np.bool_]) -> Array:
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), empty)
