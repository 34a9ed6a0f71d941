"""How much a model loses when the picture gets worse: Dice by corruption and strength."""

from __future__ import annotations

import csv
import io
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from rwkv_edge.config import DEFAULT_CONFIDENCE, RESEARCH_USE
from rwkv_edge.data.pairs import Pair, read_pair
from rwkv_edge.drawing import TRUTH_COLOUR, draw_contour, line_width, picture_grid
from rwkv_edge.errors import MissingDependencyError
from rwkv_edge.evaluation.corruptions import CORRUPTIONS, STRENGTHS, corrupt
from rwkv_edge.evaluation.evaluate import Segment, checked
from rwkv_edge.evaluation.regions import LesionCounts
from rwkv_edge.files import atomic_path, write_image
from rwkv_edge.metrics import PixelCounts
from rwkv_edge.preprocess import UInt8Array, to_mask

_COLUMNS = 5


@dataclass(frozen=True)
class Cell:
    """A corruption at a strength, over all images."""

    dice: float
    """Mean of the images."""
    false_alarms: float
    """An image."""


@dataclass(frozen=True)
class Robustness:
    """The clean figures, and those of each corruption at the strengths 1 to 5."""

    images: int
    clean: Cell
    corrupted: dict[str, tuple[Cell, ...]]

    @property
    def relative_dice(self) -> float | None:
        """Mean over corruptions and strengths of Dice divided by clean Dice; None: that is 0."""
        if self.clean.dice == 0:
            return None
        return fmean(c.dice for cells in self.corrupted.values() for c in cells) / self.clean.dice

    def record(self) -> dict[str, object]:
        """Return it for JSON."""
        return {
            "images": self.images,
            "relative_dice": self.relative_dice,
            "clean": vars(self.clean),
            "strengths": list(STRENGTHS),
            "dice": {name: [c.dice for c in cells] for name, cells in self.corrupted.items()},
            "false_alarms": {
                name: [c.false_alarms for c in cells] for name, cells in self.corrupted.items()
            },
        }


def measure_robustness(
    segment: Segment,
    pairs: Sequence[Pair],
    num_classes: int = 1,
    confidence: float = DEFAULT_CONFIDENCE,
    names: Sequence[str] = tuple(CORRUPTIONS),
    seed: int = 0,
    on_progress: Callable[[], None] | None = None,
) -> Robustness:
    """Segment every image clean and under every corruption at every strength.

    The chance in a corruption depends on the seed, its name and the image's place, neither on the
    strength nor on what else is measured: the curves of two models, and of two runs, compare.

    Args:
        segment: the model.
        pairs: images and masks, at least one.
        num_classes: of the masks.
        confidence: a foreground pixel must reach this probability, in 0..1.
        names: of `CORRUPTIONS`.
        seed: of all chance.
        on_progress: called after each image.

    Raises:
        DataError: an image or mask cannot be read.
        BackendError: the model failed.
    """

    def score(image: UInt8Array, truth: UInt8Array) -> Cell:
        predicted = to_mask(checked(segment(image)), confidence)
        return Cell(
            PixelCounts.of(predicted, truth).dice,
            LesionCounts.of(predicted > 0, truth > 0).false_alarms,
        )

    clean: list[Cell] = []
    found: dict[str, list[list[Cell]]] = {name: [[] for _ in STRENGTHS] for name in names}
    for index, pair in enumerate(pairs):
        image, truth = read_pair(pair, num_classes)
        clean.append(score(image, truth))
        for name, columns in found.items():
            for column, strength in zip(columns, STRENGTHS, strict=True):
                rng = _generator(seed, name, index)
                column.append(score(*corrupt(name, image, truth, strength, rng)))
        if on_progress:
            on_progress()
    means = {name: tuple(_mean(cells) for cells in columns) for name, columns in found.items()}
    return Robustness(len(pairs), _mean(clean), means)


def _generator(seed: int, name: str, index: int) -> np.random.Generator:
    return np.random.default_rng((seed, zlib.crc32(name.encode()), index))


def _mean(cells: Sequence[Cell]) -> Cell:
    return Cell(fmean(c.dice for c in cells), fmean(c.false_alarms for c in cells))


def robustness_csv(results: dict[str, Robustness]) -> str:
    """Return a CSV with a row for each data set, corruption and strength; strength 0 is clean."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["data", "corruption", "strength", "dice", "false_alarms_per_image"])
    for data, result in results.items():
        rows = [("clean", 0, result.clean)]
        for name, cells in result.corrupted.items():
            rows += [(name, strength, c) for strength, c in zip(STRENGTHS, cells, strict=True)]
        for name, strength, cell in rows:
            writer.writerow([data, name, strength, f"{cell.dice:.6f}", f"{cell.false_alarms:.6f}"])
    return text.getvalue()


def draw_robustness(path: Path, results: dict[str, Robustness]) -> None:
    """Plot Dice over strength, a panel for each corruption and a line for each data set, as a PNG.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        OutputError: it cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("matplotlib", "evaluation", "the curves") from error
    names = list(next(iter(results.values())).corrupted)
    rows = -(-len(names) // _COLUMNS)
    figure = Figure(figsize=(12, 1 + 2 * rows), layout="constrained")
    panels = list(figure.subplots(rows, _COLUMNS, sharex=True, sharey=True, squeeze=False).flat)
    for axes, name in zip(panels, names, strict=False):
        for data, result in results.items():
            dice = [result.clean.dice, *(cell.dice for cell in result.corrupted[name])]
            (line,) = axes.plot([0, *STRENGTHS], dice, marker=".", label=data)
            axes.axhline(result.clean.dice, color=line.get_color(), linewidth=0.7, linestyle=":")
        axes.set_title(name, fontsize=10)
        axes.set(ylim=(0, 1), xticks=[0, *STRENGTHS])
        axes.grid(alpha=0.3)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    if len(results) > 1:
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
    figure.supylabel("mean Dice of the images", fontsize=10)
    figure.supxlabel(f"strength; 0 and dotted: clean.  {RESEARCH_USE}", fontsize=9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def draw_corruptions(
    path: Path, image: UInt8Array, mask: UInt8Array, strength: int = 3, seed: int = 0
) -> None:
    """Draw one image under every corruption, the mask outlined in white.

    Args:
        path: PNG or JPEG to write.
        image: (h, w, 3) uint8 BGR.
        mask: (h, w) uint8 class labels.
        strength: 1 to 5.
        seed: of all chance.

    Raises:
        OutputError: it cannot be written.
    """
    tiles = []
    for name in CORRUPTIONS:
        corrupted, truth = corrupt(name, image, mask, strength, _generator(seed, name, 0))
        picture = corrupted.copy()
        region = (truth > 0).astype(np.uint8)
        draw_contour(picture, region, TRUTH_COLOUR, line_width(picture))
        tiles.append((picture, name))
    write_image(path, picture_grid(tiles, _COLUMNS, legend=f"strength {strength} of 5"))
