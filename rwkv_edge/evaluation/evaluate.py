"""A model on labelled images: what each of them scores, and figures over all of them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from rwkv_edge.config import DEFAULT_CONFIDENCE, MASK_THRESHOLD
from rwkv_edge.data.pairs import Pair, raise_problems, read_pair
from rwkv_edge.errors import BackendError, DataError
from rwkv_edge.evaluation.calibration import Reliability
from rwkv_edge.evaluation.regions import BoolArray, LesionCounts, hd95, size_class
from rwkv_edge.evaluation.saliency import (
    e_measure,
    mean_absolute_error,
    s_measure,
    weighted_f_measure,
)
from rwkv_edge.metrics import PixelCounts
from rwkv_edge.preprocess import (
    FloatArray,
    Letterbox,
    UInt8Array,
    foreground_labels,
    foreground_names,
    to_input,
    to_mask,
)

Predict = Callable[[UInt8Array], FloatArray]
"""From (N, H, W, 3) uint8 BGR to (N, classes, H, W) float32 probabilities."""
Segment = Callable[[UInt8Array], FloatArray]
"""From (h, w, 3) uint8 BGR to (classes, h, w) float32 probabilities: a model with its pre- and
postprocessing, whatever those are."""


@dataclass(frozen=True)
class Details:
    """What takes longer than counting pixels; all of the foreground, at native resolution."""

    network: PixelCounts
    """At the network's resolution, inside the letterbox: prediction and mask both scaled to it."""
    mae: float
    s_measure: float
    e_measure: float
    weighted_f_measure: float
    """NaN without a lesion, or without scipy."""
    hd95: float
    """Pixels; NaN where a mask is empty."""
    reliability: Reliability


@dataclass(frozen=True)
class ImageScore:
    """How well one image was segmented, at its own resolution."""

    pair: Pair
    foreground: PixelCounts
    """All classes together; a pixel of the wrong one is both a miss and a false positive."""
    classes: tuple[PixelCounts, ...]
    """Each foreground class against everything else."""
    lesions: LesionCounts
    size: str | None
    """Of the lesions, one of `regions.SIZES`; None: the image has none."""
    details: Details | None = None


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
        return foreground_names(self.names)

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
    """Segment every image and compare it with its mask, in every detail.

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

    def score(pair: Pair, image: UInt8Array, truth: UInt8Array) -> ImageScore:
        network, letterbox = _predict(predict, input_size, image)
        probability = letterbox.restore(network)
        predicted = to_mask(probability, confidence)
        rows, columns = letterbox.inside
        small = to_mask(network[:, rows, columns], confidence)
        small_truth = np.zeros_like(small)
        for label in foreground_labels(truth):
            plane = letterbox.apply((truth == label) * np.uint8(255))[rows, columns]
            small_truth[plane > MASK_THRESHOLD] = label
        details = _details(
            PixelCounts.of(small, small_truth), probability, predicted > 0, truth > 0
        )
        return replace(score_image(pair, predicted, truth, len(names)), details=details)

    return _walk(score, pairs, names, on_progress)


def evaluate_masks(
    segment: Segment,
    pairs: Sequence[Pair],
    names: tuple[str, ...] = ("polyp",),
    confidence: float = DEFAULT_CONFIDENCE,
    on_progress: Callable[[], None] | None = None,
) -> Evaluation:
    """As `evaluate`, of a model with its own preprocessing, and without the slow details."""

    def score(pair: Pair, image: UInt8Array, truth: UInt8Array) -> ImageScore:
        predicted = to_mask(checked(segment(image)), confidence)
        return score_image(pair, predicted, truth, len(names))

    return _walk(score, pairs, names, on_progress)


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
    return to_mask(predict_probability(predict, input_size, image), confidence)


def predict_probability(
    predict: Predict, input_size: tuple[int, int], image: UInt8Array
) -> FloatArray:
    """As `predict_labels`, but the probabilities themselves: (classes, h, w) float32."""
    network, letterbox = _predict(predict, input_size, image)
    return letterbox.restore(network)


def checked(probability: FloatArray) -> FloatArray:
    """Return what a model gave, or raise BackendError: what is no number passes for background."""
    if not np.isfinite(probability).all():
        raise BackendError("the model's output is not finite; try another --backend or precision")
    return probability


def score_image(
    pair: Pair, predicted: UInt8Array, truth: UInt8Array, num_classes: int
) -> ImageScore:
    """Compare two masks (h, w) of class labels."""
    ours, theirs = predicted > 0, truth > 0
    foreground = PixelCounts.of(predicted, truth)
    per_class: tuple[PixelCounts, ...] = (foreground,)
    if num_classes > 1:
        labels = range(1, num_classes)
        per_class = tuple(PixelCounts.of(predicted == label, truth == label) for label in labels)
    return ImageScore(
        pair, foreground, per_class, LesionCounts.of(ours, theirs), size_class(theirs)
    )


def has_scipy() -> bool:
    """Whether the weighted F-measure can be had."""
    return importlib.util.find_spec("scipy") is not None


def _walk(
    score: Callable[[Pair, UInt8Array, UInt8Array], ImageScore],
    pairs: Sequence[Pair],
    names: tuple[str, ...],
    on_progress: Callable[[], None] | None,
) -> Evaluation:
    scores, problems = [], []
    for pair in pairs:
        try:
            image, truth = read_pair(pair, len(names))
        except DataError as error:
            problems.append(str(error))
        else:
            if not problems:  # else only to find the others
                scores.append(score(pair, image, truth))
        if on_progress:
            on_progress()
    raise_problems(pairs[0].image.parent.parent, problems)
    return Evaluation(tuple(scores), names)


def _predict(
    predict: Predict, input_size: tuple[int, int], image: UInt8Array
) -> tuple[FloatArray, Letterbox]:
    """Return (classes, H, W) at the network's resolution, and where the image lies in it."""
    batch, letterbox = to_input(image, input_size)
    return checked(predict(batch)[0]), letterbox


def _details(
    network: PixelCounts, probability: FloatArray, predicted: BoolArray, truth: BoolArray
) -> Details:
    foreground = probability[0] if len(probability) == 1 else 1 - probability[0]
    foreground = foreground.clip(0, 1)  # float16 overshoots by a rounding
    return Details(
        network,
        mean_absolute_error(foreground, truth),
        s_measure(foreground, truth),
        e_measure(foreground, truth),
        weighted_f_measure(foreground, truth) if has_scipy() else float("nan"),
        hd95(predicted, truth),
        Reliability.of(foreground, truth),
    )
