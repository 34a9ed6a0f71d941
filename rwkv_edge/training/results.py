"""What a run has reached, epoch by epoch: results.csv and its curves."""

from __future__ import annotations

import csv
from pathlib import Path

from rwkv_edge.files import atomic_path
from rwkv_edge.training.figures import draw_curves

COLUMNS = (
    *("epoch", "imgsz", "lr", "train_loss", "val_loss", "val_dice", "seconds"),
    *("images_per_second", "peak_mb", "peak_gpu_mb"),
)
"""Images per second of training, over all processes; the peaks are those of the largest process."""


class Results:
    """The rows of a run's table.

    Args:
        folder: of the run.
        epochs: done so far; later rows, of an epoch that was cut off, are dropped.
    """

    def __init__(self, folder: Path, epochs: int) -> None:
        self.folder = folder
        self.rows: list[dict[str, float]] = []
        if epochs and self._table.is_file():
            with self._table.open(newline="") as file:
                rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
            self.rows = rows[:epochs]

    @property
    def _table(self) -> Path:
        return self.folder / "results.csv"

    def add(self, row: dict[str, float]) -> None:
        """Append an epoch."""
        self.rows.append(row)

    def write(self) -> None:
        """Write both files anew, each whole or not at all."""
        with atomic_path(self._table) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows({k: _rounded(v) for k, v in row.items()} for row in self.rows)
        draw_curves(self.folder / "curves.png", self.rows)


def _rounded(value: float) -> float | int:
    return value if isinstance(value, int) or value.is_integer() else float(f"{value:.6g}")
