"""What a person sees while a run is going: a bar with loss, Dice and remaining time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar


class Progress:
    """Progress bars on standard error; one plain line an epoch on standard output."""

    def __init__(self) -> None:
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=Console(stderr=True),
        )
        self._epochs: TaskID | None = None
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

    def step(self, epoch: int, epochs: int, batch: int, batches: int, loss: float) -> None:
        """Show that a batch is done."""
        if self._epochs is None:
            self._epochs = self.bar.add_task("", total=epochs * batches)
        self.bar.update(
            self._epochs,
            completed=epoch * batches + batch,
            description=f"epoch {epoch + 1}/{epochs}  loss {loss:.3f}{self._dice}",
        )

    def epoch_done(self, epoch: int, epochs: int, row: Mapping[str, float], best: float) -> None:
        """Print the epoch's line."""
        self._dice = f"  Dice {row['val_dice']:.4f} (best {best:.4f})"
        print(
            f"epoch {epoch}/{epochs}  {row['imgsz']:.0f} px  train loss {row['train_loss']:.4f}  "
            f"val loss {row['val_loss']:.4f}  val Dice {row['val_dice']:.4f}  "
            f"best {best:.4f}  {row['seconds']:.0f} s",
            flush=True,
        )
