"""A model on labelled images: Dice and IoU of each, and figures over all of their pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from rwkv_edge.config import DEFAULT_CONFIDENCE
from rwkv_edge.data.pairs import Pair, raise_problems, read_pair
from rwkv_edge.errors import BackendError, DataError
from rwkv_edge.metrics import PixelCounts
from rwkv_edge.preprocess import FloatArray, UInt8Array, to_input, to_mask

Predict = Callable[[UInt8Array], FloatArray]
"""From (N, H, W, 3) uint8 BGR to (N, classes, H, W) float32 probabilities."""


@dataclass(frozen=True)
class ImageScore:
    """How well one image was segmented, at its own resolution."""

    pair: Pair
    foreground: PixelCounts
    """Any class against the background."""
    classes: tuple[PixelCounts, ...]
    """Each foreground class against everything else."""


@dataclass(frozen=True)
class Evaluation:
    """The scores of a data set.

    Means are over images, so that a small lesion weighs as much as a large one; an image without a
    lesion scores 1 if nothing was predicted, else 0. All other figures are pooled: they count the
    pixels of all images together.
    """

    scores: tuple[ImageScore, ...]
    names: tuple[str, ...]
    """The classes, as in `DataSet`."""

    @property
    def foreground_names(self) -> tuple[str, ...]:
        """The classes without the background."""
        return self.names if len(self.names) == 1 else self.names[1:]

    @property
    def mean_dice(self) -> float:
        """Mean of the images' Dice coefficients."""
        return fmean(score.foreground.dice for score in self.scores)

    @property
    def mean_iou(self) -> float:
        """Mean of the images' intersections over unions."""
        return fmean(score.foreground.iou for score in self.scores)

    @property
    def pooled(self) -> PixelCounts:
        """Foreground against background, over the pixels of all images."""
        return sum((score.foreground for score in self.scores), PixelCounts())

    @property
    def class_dice(self) -> dict[str, float]:
        """Pooled Dice of each foreground class."""
        columns = zip(*(score.classes for score in self.scores), strict=True)
        pooled = [sum(counts, PixelCounts()) for counts in columns]
        named = zip(self.foreground_names, pooled, strict=True)
        return {name: counts.dice for name, counts in named}

    def summary(self) -> dict[str, object]:
        """Return the figures by name; `class_dice` is there for several classes only."""
        pooled = self.pooled
        figures: dict[str, object] = {
            "images": len(self.scores),
            "mean_dice": self.mean_dice,
            "mean_iou": self.mean_iou,
            "pooled_dice": pooled.dice,
            "precision": pooled.precision,
            "recall": pooled.recall,
            "false_positive_rate": pooled.false_positive_rate,
        }
        if len(self.names) > 1:
            figures["class_dice"] = self.class_dice
        return figures

    def worst(self, count: int) -> list[ImageScore]:
        """Return the images with the lowest Dice, the worst first."""
        return sorted(self.scores, key=lambda score: score.foreground.dice)[:count]


def evaluate(
    predict: Predict,
    input_size: tuple[int, int],
    pairs: Sequence[Pair],
    names: tuple[str, ...] = ("polyp",),
    confidence: float = DEFAULT_CONFIDENCE,
    on_progress: Callable[[], None] | None = None,
) -> Evaluation:
    """Segment every image and compare it with its mask.

    Args:
        predict: the model.
        input_size: height and width of its input, in pixels.
        pairs: what to segment, at least one.
        names: the classes, as in `DataSet`: one name, or several that start with the background.
        confidence: a foreground pixel must reach this probability, in 0..1.
        on_progress: called after each image.

    Raises:
        DataError: lists every image or mask that cannot be used.
        BackendError: the model failed.
    """
    scores, problems = [], []
    for pair in pairs:
        try:
            image, truth = read_pair(pair, len(names))
        except DataError as error:
            problems.append(str(error))
        else:
            if not problems:  # else only to find the others
                predicted = predict_labels(predict, input_size, image, confidence)
                scores.append(_score(pair, predicted, truth, len(names)))
        if on_progress:
            on_progress()
    raise_problems(pairs[0].image.parent.parent, problems)
    return Evaluation(tuple(scores), names)


def predict_labels(
    predict: Predict,
    input_size: tuple[int, int],
    image: UInt8Array,
    confidence: float = DEFAULT_CONFIDENCE,
) -> UInt8Array:
    """Segment one image.

    Args:
        predict: the model.
        input_size: height and width of its input, in pixels.
        image: (h, w, 3) uint8 BGR.
        confidence: a foreground pixel must reach this probability, in 0..1.

    Returns:
        (h, w) uint8 class labels, 0 for background.

    Raises:
        BackendError: the model failed, or gave something that is not a number.
    """
    batch, letterbox = to_input(image, input_size)
    probability = predict(batch)[0]
    if not np.isfinite(probability).all():  # would pass for background
        raise BackendError("the model's output is not finite; try another --backend or precision")
    return to_mask(letterbox.restore(probability), confidence)


def _score(pair: Pair, predicted: UInt8Array, truth: UInt8Array, num_classes: int) -> ImageScore:
    foreground = PixelCounts.of(predicted > 0, truth > 0)
    if num_classes == 1:
        return ImageScore(pair, foreground, (foreground,))
    labels = range(1, num_classes)
    per_class = tuple(PixelCounts.of(predicted == label, truth == label) for label in labels)
    return ImageScore(pair, foreground, per_class)
