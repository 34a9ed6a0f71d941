"""Whether a probability of 0.8 is a lesion in 8 of 10 cases: reliability and its error."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rwkv_edge.config import RESEARCH_USE
from rwkv_edge.errors import MissingDependencyError
from rwkv_edge.files import atomic_path
from rwkv_edge.preprocess import FloatArray

Array = NDArray[np.float64]
BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Pixels by predicted probability, in `BINS` bins of one width; sums add up over images."""

    pixels: Array
    probability: Array
    """Sum of the pixels' probabilities."""
    lesion: Array
    """How many of the pixels are lesion."""

    @classmethod
    def of(cls, probability: FloatArray, truth: NDArray[np.bool_]) -> Reliability:
        """Sort the pixels of one image (h, w) into bins."""
        p = probability.ravel()
        index = np.minimum((p * BINS).astype(np.intp), BINS - 1)
        return cls(
            np.bincount(index, minlength=BINS).astype(float),
            np.bincount(index, weights=p, minlength=BINS).astype(float),
            np.bincount(index[truth.ravel()], minlength=BINS).astype(float),
        )

    def __add__(self, other: Reliability) -> Reliability:
        return Reliability(
            self.pixels + other.pixels,
            self.probability + other.probability,
            self.lesion + other.lesion,
        )

    @property
    def error(self) -> float:
        """Expected calibration error: mean over pixels of |mean probability - share of lesion|."""
        return float(np.abs(self.probability - self.lesion).sum() / self.pixels.sum())

    def curve(self) -> tuple[Array, Array]:
        """Return mean probability and share of lesion of the bins that hold pixels."""
        used = self.pixels > 0
        return self.probability[used] / self.pixels[used], self.lesion[used] / self.pixels[used]


def draw_reliability(path: Path, reliability: Reliability) -> None:
    """Plot the share of lesion against the predicted probability as a PNG.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        OutputError: it cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("matplotlib", "evaluation", "the reliability plot") from error
    predicted, observed = reliability.curve()
    figure = Figure(figsize=(5, 6), layout="constrained")
    curve, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    curve.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="perfect")
    curve.plot(predicted, observed, marker="o", color="#0072B2", label="model")
    curve.set(
        title=f"reliability of pixels, ECE {reliability.error:.4f}",
        ylabel="share that is lesion",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    curve.legend(frameon=False)
    edges = np.arange(BINS) / BINS
    counts.bar(edges, reliability.pixels, width=0.9 / BINS, align="edge", color="#56B4E9")
    counts.set(
        yscale="log", ylabel="pixels", xlabel=f"predicted probability of lesion\n{RESEARCH_USE}"
    )
    for axes in (curve, counts):
        axes.grid(alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
