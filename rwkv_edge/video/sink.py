"""Where results go: a video, pictures, masks, JSON lines, a window."""

from __future__ import annotations

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np

from rwkv_edge.errors import OutputError
from rwkv_edge.files import make_folder, write_image
from rwkv_edge.video.result import Result
from rwkv_edge.video.window import ESCAPE, NO_KEY, Window
from rwkv_edge.video.writer import VideoWriter


class Sink(ABC):
    """Takes results. Close it, or use it as a context manager."""

    stopped = False
    """True once the user asked through this sink to end the run."""

    @abstractmethod
    def write(self, result: Result) -> None:
        """Take one result.

        Raises:
            OutputError: it cannot be written.
        """

    def close(self) -> None:  # noqa: B027
        """Finish."""

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class VideoSink(Sink):
    """The overlays as a video, at the times of the source."""

    def __init__(self, path: Path, fps: float | None) -> None:
        self._writer = VideoWriter(path, fps)

    def write(self, result: Result) -> None:
        """Append the overlay."""
        if result.overlay is not None:
            self._writer.write(result.overlay, result.frame.time_s)

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()


class OverlaySink(Sink):
    """The overlays as JPEGs, called like their images."""

    def __init__(self, folder: Path) -> None:
        self._folder = make_folder(folder)

    def write(self, result: Result) -> None:
        """Write one JPEG."""
        if result.overlay is not None:
            write_image(self._folder / f"{result.frame.name}.jpg", result.overlay)


class MaskSink(Sink):
    """The masks as PNGs of the frames' own size.

    One foreground class is written as 0 and 255, several as their indices. A frame with invalid
    output gets no mask: a black one would say that nothing was found.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = make_folder(folder)

    def write(self, result: Result) -> None:
        """Write one PNG."""
        if result.valid:
            mask = result.mask * np.uint8(255) if len(result.names) == 1 else result.mask
            write_image(self._folder / f"{result.frame.name}.png", mask)


class JsonLines(Sink):
    """One JSON object a line, each flushed, so that a kill loses at most the last."""

    def __init__(self, target: str) -> None:
        """Open a file, or standard output for '-'.

        Raises:
            OutputError: the file cannot be made.
        """
        self._name = target
        if target == "-":
            # this very object: progress bars put another in its place while they are shown
            self._stream = sys.stdout
            self._ours = False
            return
        make_folder(Path(target).parent)
        with self._reported():
            self._stream = open(target, "w", encoding="utf-8")  # noqa: SIM115
            self._ours = True

    def write(self, result: Result) -> None:
        """Write one line."""
        line = json.dumps(result.as_dict(), allow_nan=False, ensure_ascii=False)
        # a file's name that is not UTF-8 stands in Python as surrogates, and JSON knows \udcXX too
        line = line.encode("utf-8", "backslashreplace").decode()
        with self._reported():
            self._stream.write(line + "\n")
            self._stream.flush()

    def close(self) -> None:
        """Close the file; standard output stays open."""
        if self._ours:
            with self._reported():
                self._stream.close()

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise  # the reader has seen enough, as `| head` does; that is no error of ours
        except OSError as error:
            raise OutputError(f"cannot write {self._name}: {error.strerror}") from error


class WindowSink(Sink):
    """A window; q, Esc or closing it ends the run. A still image stays until a key is pressed."""

    def __init__(self, *, still: bool = False) -> None:
        """Open the window.

        Raises:
            OutputError: this OpenCV has no windows, or there is no display.
        """
        self._window, self._still = Window(), still

    def write(self, result: Result) -> None:
        """Show the overlay and look at the keyboard."""
        if result.overlay is None:
            return
        key = self._window.show(result.overlay)
        while self._still and key == NO_KEY and self._window.is_open:
            key = self._window.wait(50)
        self.stopped = key in (ord("q"), ESCAPE) or not self._window.is_open

    def close(self) -> None:
        """Close the window."""
        self._window.close()
