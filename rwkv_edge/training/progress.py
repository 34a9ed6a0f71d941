"""What a person sees while a run is going: a bar with loss, Dice and remaining time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar


class Progress:
    """Progress bars on standard error; one plain line an epoch on standard output.

    Args:
        shown: whether anything is; not in any but the first process of a run.
    """

    def __init__(self, *, shown: bool) -> None:
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=Console(stderr=True),
            disable=not shown,
        )
        self._run: TaskID | None = None
        self._dice = ""

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    @contextmanager
    def reading(self, title: str, total: int) -> Iterator[Callable[[], None]]:
        """Show a bar while `total` files are read; call the yielded function after each."""
        task = self.bar.add_task(title, total=total)
        yield lambda: self.bar.advance(task)
        self.bar.remove_task(task)

    def step(self, share: float, epoch: str, loss: float) -> None:
        """Show how much of the run is done."""
        if self._run is None:
            self._run = self.bar.add_task("", total=1.0)
        self.bar.update(
            self._run, completed=share, description=f"epoch {epoch}  loss {loss:.3f}{self._dice}"
        )

    def epoch_done(self, epoch: str, row: Mapping[str, float], best: float) -> None:
        """Print the epoch's line."""
        self._dice = f"  Dice {row['val_dice']:.4f} (best {best:.4f})"
        print(
            f"epoch {epoch}  {row['imgsz']:.0f} px  train loss {row['train_loss']:.4f}  "
            f"val loss {row['val_loss']:.4f}  val Dice {row['val_dice']:.4f}  "
            f"best {best:.4f}  {row['seconds']:.0f} s  {row['images_per_second']:.1f} images/s  "
            f"{_memory(row)}",
            flush=True,
        )


def _memory(row: Mapping[str, float]) -> str:
    host = f"{row['peak_mb'] / 1024:.1f} GB"
    return f"{host}, GPU {row['peak_gpu_mb'] / 1024:.1f} GB" if row["peak_gpu_mb"] else host
