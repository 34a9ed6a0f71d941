"""Where live pictures go: a window, JSON lines, and anything slow behind a thread of its own."""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from pathlib import Path
from typing import IO, Protocol

from rwkv_edge.errors import OutputError
from rwkv_edge.files import make_folder
from rwkv_edge.video.live import Controls, LiveFrame, Signal
from rwkv_edge.video.window import ESCAPE, Window

_JOIN_S = 4.0


class LiveSink(Protocol):
    """Takes live pictures.

    It may also have `notice` (a line for the screen), `recording` (whether it keeps what it gets)
    and `stopped` (whether its user asked to end the stream).
    """

    def write(self, frame: LiveFrame) -> None:
        """Take one picture.

        Raises:
            OutputError: it takes no more; the stream goes on without it.
        """

    def close(self) -> None:
        """Finish."""


class Outlet:
    """A sink behind a short queue and a thread, so that a slow disk never slows the screen."""

    def __init__(self, sink: LiveSink, depth: int = 8) -> None:
        """Take over a sink; `depth` pictures may wait, then the oldest is dropped."""
        self._sink = sink
        self._queue: queue.Queue[LiveFrame | None] = queue.Queue(depth)
        self.dropped = 0
        self._problem = ""
        self._thread = threading.Thread(target=self._run, name="outlet", daemon=True)
        self._thread.start()

    @property
    def notice(self) -> str:
        """The sink's own, or why it ended."""
        return self._problem or getattr(self._sink, "notice", "")

    @property
    def recording(self) -> bool:
        """The sink's own."""
        return not self._problem and getattr(self._sink, "recording", False)

    @property
    def stopped(self) -> bool:
        """The sink's own."""
        return getattr(self._sink, "stopped", False)

    def write(self, frame: LiveFrame) -> None:
        """Leave a picture; never waits."""
        while not self._problem:
            try:
                self._queue.put_nowait(frame)
                return
            except queue.Full:
                self._discard()

    def _discard(self) -> None:
        try:
            self._queue.get_nowait()
            self.dropped += 1
        except queue.Empty:
            pass  # the thread was quicker

    def _run(self) -> None:
        while (frame := self._queue.get()) is not None:
            try:
                self._sink.write(frame)
            except OutputError as error:
                self._problem = str(error)
                return
            except Exception as error:  # a codec raises anything; unsaid, REC would stay on
                self._problem = f"an output failed: {type(error).__name__}: {error}"
                return

    def close(self) -> None:
        """Write what waits, then finish.

        Raises:
            OutputError: the sink could not finish its file.
        """
        end = time.monotonic() + _JOIN_S
        while self._thread.is_alive() and time.monotonic() < end:
            try:
                self._queue.put(None, timeout=0.1)
                break
            except queue.Full:
                continue
        self._thread.join(max(0.0, end - time.monotonic()))
        if self._thread.is_alive():
            raise OutputError("an output did not finish in time; its last moments may be missing")
        self._sink.close()


class LiveJson:
    """A line for every result and for every change of the signal, each flushed."""

    def __init__(self, target: str) -> None:
        """Open a file, or standard output for '-'.

        Raises:
            OutputError: the file cannot be made.
        """
        self.stopped = False
        self._name = target
        self._signal: Signal | None = None
        self._start = time.monotonic()
        self._stream: IO[str] = sys.stdout
        if target != "-":
            make_folder(Path(target).parent)
            try:
                self._stream = open(target, "w", encoding="utf-8")  # noqa: SIM115
            except OSError as error:
                raise OutputError(f"cannot write {target}: {error.strerror}") from error

    def write(self, frame: LiveFrame) -> None:
        """Write the line, if there is anything new."""
        changed, self._signal = frame.signal is not self._signal, frame.signal
        if frame.result is None and not changed:
            return
        captured = frame.result.frame.captured if frame.result else frame.captured
        line = {
            "time_s": round(time.monotonic() - self._start, 4),
            "signal": frame.signal.value,
            "age_ms": round(1e3 * (time.monotonic() - captured), 2),
            "dropped": frame.dropped,
            "recording": frame.recording,
            "backend": frame.backend,
            "result": frame.result.as_dict() if frame.result else None,
        }
        try:
            self._stream.write(json.dumps(line, allow_nan=False, ensure_ascii=False) + "\n")
            self._stream.flush()
        except BrokenPipeError:  # the reader has seen enough, as `| head` does
            self.stopped = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
        except OSError as error:
            raise OutputError(f"cannot write {self._name}: {error.strerror}") from error

    def close(self) -> None:
        """Close the file; standard output stays open."""
        if self._stream is not sys.stdout:
            try:
                self._stream.close()
            except OSError as error:
                raise OutputError(f"cannot write {self._name}: {error.strerror}") from error


class LiveWindow:
    """A window: q or Esc ends, space freezes, r starts and stops the recording, c the contour."""

    def __init__(self, controls: Controls) -> None:
        """Open the window.

        Raises:
            OutputError: this OpenCV has no windows, or there is no display.
        """
        self._window, self._controls = Window(), controls
        self.stopped = False

    def write(self, frame: LiveFrame) -> None:
        """Show the picture and look at the keyboard."""
        key = self._window.show(frame.image)
        view = self._controls.view
        if key == ord(" "):
            self._controls.update(frozen=not view.frozen)
        elif key == ord("r"):
            self._controls.update(recording=not view.recording)
        elif key == ord("c"):
            self._controls.update(contour=not view.contour)
        self.stopped = key in (ord("q"), ESCAPE) or not self._window.is_open

    def close(self) -> None:
        """Close the window."""
        self._window.close()
