"""The gate: a model of lower precision is compared with float32 before anyone gets it.

Also the measurement that names the layers which a conversion hurts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rwkv_edge.config import DEFAULT_CONFIDENCE
from rwkv_edge.metrics import PixelCounts
from rwkv_edge.preprocess import FloatArray, UInt8Array, to_mask

Network = Callable[[UInt8Array], FloatArray]
"""(N, H, W, 3) uint8 BGR to (N, classes, H, W) float32 probabilities, as a `Runner`."""


@dataclass(frozen=True)
class GateResult:
    """How far a model is from the float32 one, on the same images."""

    images: int
    dice: float
    """Between the two models' masks, over the pixels of all images, 0..1."""
    worst_dice: float
    """The least Dice of one image."""
    disagreement: float
    """Share of pixels with another label, 0..1."""
    max_error: float
    """Largest difference in probability, over finite values."""
    non_finite: int
    """Values that are NaN or infinite."""
    reference_pixels: int
    """Foreground pixels that float32 finds; with none, the masks say nothing."""

    @property
    def dice_drop(self) -> float:
        """1 - Dice; 1 for a model with values that are not finite."""
        return 1.0 if self.non_finite else 1.0 - self.dice

    def passes(self, max_dice_drop: float) -> bool:
        """Judge; a comparison without a single foreground pixel proves nothing and fails."""
        says_something = self.reference_pixels > 0 and not self.non_finite
        return says_something and self.dice_drop <= max_dice_drop

    def refusal(self, what: str, max_dice_drop: float) -> str:
        """Say why `what` does not pass, up to the advice."""
        if not self.reference_pixels:
            return (
                f"float32 finds nothing in these {self.images} images, so they say nothing about "
                f"{what}; give --calib a folder of images in which there is something to find"
            )
        values = f", with {self.non_finite} values not finite" if self.non_finite else ""
        return (
            f"{what} loses {self.dice_drop:.4f} of Dice against float32 on {self.images} images, "
            f"{max_dice_drop:g} is allowed{values}"
        )

    def __str__(self) -> str:
        return (
            f"Dice {self.dice:.4f} with float32 on {self.images} images (worst "
            f"{self.worst_dice:.4f}), {self.disagreement:.3%} of pixels differ, largest error "
            f"{self.max_error:.4f} in probability, {self.non_finite} values not finite"
        )


def predict(network: Network, images: Sequence[UInt8Array]) -> Iterable[FloatArray]:
    """Yield the probabilities (classes, H, W) of each image (H, W, 3), one after the other."""
    return (network(image[None])[0] for image in images)


def compare(expected: Iterable[FloatArray], got: Iterable[FloatArray]) -> GateResult:
    """Compare probabilities (classes, H, W), image by image.

    Args:
        expected: of the float32 model.
        got: of the other one, for the same images.

    Raises:
        ValueError: different numbers of images, or none.
    """
    total, scores = PixelCounts(), []
    errors, pixels, non_finite, disagreeing, found = [0.0], 0, 0, 0, 0
    for want, have in zip(expected, got, strict=True):
        finite = np.isfinite(have)
        non_finite += int(have.size - np.count_nonzero(finite))
        errors.append(float(np.abs(want - have, where=finite, out=np.zeros_like(want)).max()))
        ours, theirs = (to_mask(p, DEFAULT_CONFIDENCE) for p in (want, have))
        counts = PixelCounts()
        for label in range(1, max(2, len(want))):
            counts += PixelCounts.of(theirs == label, ours == label)
        total += counts
        scores.append(counts.dice)
        pixels += ours.size
        disagreeing += int(np.count_nonzero(ours != theirs))
        found += int(np.count_nonzero(ours))
    return GateResult(
        len(scores),
        total.dice,
        min(scores),
        disagreeing / pixels,
        max(errors),
        non_finite,
        found,
    )


def rank_layers(
    judge: Callable[[Sequence[str]], GateResult],
    layers: Mapping[str, Sequence[str]],
    advance: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Measure how much each layer hurts when it alone is converted.

    One at a time, because several fatal layers hide each other when layers are restored one at a
    time from a model converted as a whole.

    Args:
        judge: compares the model in which only these nodes are converted with float32.
        layers: the nodes of each layer.
        advance: called after each layer.

    Returns:
        The Dice drop of each layer, the largest first; ties by the largest error in probability.
    """
    results = {}
    for name, nodes in layers.items():
        results[name] = judge(nodes)
        advance()
    order = sorted(results, key=lambda n: (-results[n].dice_drop, -results[n].max_error))
    return {name: results[name].dice_drop for name in order}
