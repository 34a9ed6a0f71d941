"""Two models on the same images: what differs, how surely, and a sentence about each number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rwkv_edge.errors import DataError
from rwkv_edge.evaluation.bootstrap import (
    CONFIDENCE,
    Array,
    Interval,
    images_needed,
    mean_interval,
    permutation_p,
)
from rwkv_edge.evaluation.evaluate import Evaluation, ImageScore
from rwkv_edge.evaluation.regions import SIZES

A, B, NOT_ENOUGH, SAME = "A", "B", "not enough images", "same"
NOT_ENOUGH_ROUNDS = "not enough rounds"
FEWEST_ROUNDS = 20
"""From which the interval of two latencies can be trusted: drawn from 3 rounds it leaves out 1 for
a quarter of all equal models, from 10 for a tenth, from 20 for a twentieth, as it should."""


@dataclass(frozen=True)
class Metric:
    """A number that two models are compared by."""

    title: str
    unit: str
    of: Callable[[ImageScore], float]
    higher_is_better: bool


METRICS = {
    "dice": Metric("Dice", "mean of the images", lambda score: score.foreground.dice, True),
    "false_alarm_rate": Metric(
        "false-alarm rate", "regions an image", lambda score: score.lesions.false_alarms, False
    ),
    "false_positive_rate": Metric(
        "false-positive rate",
        "share of an image's healthy pixels",
        lambda score: score.foreground.false_positive_rate,
        False,
    ),
}


@dataclass(frozen=True)
class Difference:
    """One number of both models, B minus A image by image, and whether that means anything."""

    metric: Metric
    images: int
    a: Interval
    b: Interval
    difference: Interval
    p: float
    """Of a paired permutation test."""
    needed: int | None
    """Images that would tell, see `images_needed`; None: no difference at all."""
    wins: tuple[int, int]
    """Images on which A is better, and on which B is."""

    @property
    def winner(self) -> str:
        """'A', 'B', 'same' or 'not enough images': a winner needs both interval and test."""
        if self.needed is None and self.difference.low == self.difference.high == 0:
            return SAME
        if self.p >= 1 - CONFIDENCE or not self.difference.excludes(0):
            return NOT_ENOUGH
        return B if (self.difference.value > 0) == self.metric.higher_is_better else A

    @property
    def verdict(self) -> str:
        """What to think of it, in a sentence or two."""
        d = self.difference
        size = f"B - A = {d.value:+.4f}, 95 % interval {d.low:+.4f} to {d.high:+.4f}"
        size += f", p = {self.p:.3f}" if self.p >= 0.001 else ", p < 0.001"
        if self.winner == SAME:
            return (
                f"No difference: the {self.metric.title} is the same on all {self.images} images."
            )
        if self.winner == NOT_ENOUGH:
            plan = "Their means are equal; more images alone may never tell them apart."
            if self.images == 1:
                plan = "One image says nothing of others."
            elif self.needed is not None and self.needed <= self.images:
                plan = "They are close to the limit; a few more images may settle it."
            elif self.needed is not None:
                count = f"{_two_digits(self.needed):,}"
                plan = f"If this is the true difference, it takes about {count} to tell."
            known = f"{size}, on {self.images} images"
            return f"Not enough images to tell whose {self.metric.title} is better: {known}. {plan}"
        word = "higher" if self.difference.value > 0 else "lower"
        return f"{self.winner} is better: B has the {word} {self.metric.title}, {size}."

    def record(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "title": self.metric.title,
            "unit": self.metric.unit,
            "images": self.images,
            "a": vars(self.a),
            "b": vars(self.b),
            "difference_b_minus_a": vars(self.difference),
            "p": self.p,
            "images_needed": self.needed,
            "images_a_better": self.wins[0],
            "images_b_better": self.wins[1],
            "winner": self.winner,
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class Comparison:
    """All that two evaluations of the same images tell about their models."""

    a: Evaluation
    b: Evaluation
    differences: dict[str, Difference]
    by_size: dict[str, Difference | None]
    """Dice by the size of the lesions; None: no image."""

    def most_different(self, count: int) -> list[tuple[ImageScore, ImageScore]]:
        """Return the images on which the two differ most in Dice, the largest first."""
        both = list(zip(self.a.scores, self.b.scores, strict=True))
        both.sort(key=lambda pair: -abs(pair[0].foreground.dice - pair[1].foreground.dice))
        return both[:count]


def compare(a: Evaluation, b: Evaluation) -> Comparison:
    """Compare two models image by image.

    Raises:
        DataError: the evaluations are of different images.
    """
    if [score.pair for score in a.scores] != [score.pair for score in b.scores]:
        raise DataError("the two evaluations are of different images")
    differences = {
        name: _difference(metric, a.scores, b.scores) for name, metric in METRICS.items()
    }
    by_size = {}
    for name in SIZES:
        chosen = [index for index, score in enumerate(a.scores) if score.size == name]
        scores = ([a.scores[i] for i in chosen], [b.scores[i] for i in chosen])
        by_size[name] = _difference(METRICS["dice"], *scores) if chosen else None
    return Comparison(a, b, differences, by_size)


def _difference(metric: Metric, a: Sequence[ImageScore], b: Sequence[ImageScore]) -> Difference:
    ours, theirs = _values(metric, a), _values(metric, b)
    d = theirs - ours
    better = d if metric.higher_is_better else -d
    return Difference(
        metric,
        len(d),
        mean_interval(ours),
        mean_interval(theirs),
        mean_interval(d),
        permutation_p(d),
        images_needed(d),
        (int(np.count_nonzero(better < 0)), int(np.count_nonzero(better > 0))),
    )


def _values(metric: Metric, scores: Sequence[ImageScore]) -> Array:
    return np.array([metric.of(score) for score in scores], float)


@dataclass(frozen=True)
class Latency:
    """Time for a frame, preprocessing to mask: B divided by A, and what to think of it."""

    ratio: Interval
    rounds: int
    machine: str

    @property
    def winner(self) -> str:
        """'A', 'B', 'same' or 'not enough rounds'."""
        if self.rounds < FEWEST_ROUNDS:
            return NOT_ENOUGH_ROUNDS
        if not self.ratio.excludes(1):
            return SAME
        return B if self.ratio.value < 1 else A

    @property
    def verdict(self) -> str:
        """The same in a sentence."""
        r = self.ratio
        size = f"B takes {r.value:.2f} times as long as A"
        if self.winner == NOT_ENOUGH_ROUNDS:
            return (
                f"Not enough rounds to tell which is faster: {size} in {self.rounds} rounds; "
                f"it takes {FEWEST_ROUNDS}."
            )
        size += f", 95 % interval {r.low:.2f} to {r.high:.2f}"
        if self.winner == SAME:
            return f"No difference in latency to be seen: {size}."
        return f"{self.winner} is faster: {size}."


def _two_digits(count: int) -> int:
    """Round up to two digits: a plan has no more."""
    unit: int = 10 ** max(0, len(str(count)) - 2)
    return -(-count // unit) * unit
