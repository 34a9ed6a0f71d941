"""The thread that keeps a source connected and leaves its newest frame in a mailbox."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from rwkv_edge.errors import RwkvEdgeError, SourceError
from rwkv_edge.preprocess import size_problem
from rwkv_edge.video.back_off import BackOff
from rwkv_edge.video.base import Frame, Source
from rwkv_edge.video.live_source import LiveInput
from rwkv_edge.video.mailbox import Mailbox

CONNECT_S, FIRST_FRAME_S = 4.5, 15.0
"""A source that is not connected, or has shown nothing, by then is refused at the start. A stream
that came in between two key frames shows nothing until the next."""
_LOOK_S = 0.05
_BACK_OFF_S, _BACK_OFF_CAP_S = 0.25, 2.0
_STEADY_S = 5.0  # a connection that held this long counts as good, and the back-off begins anew
_GAPS, _MAX_GAP_S = 10, 1.0  # over which the period is averaged; an outage is no period
_JOIN_S = 4.0  # a driver that hangs longer is left behind; its thread is a daemon


class Capture:
    """Reads a source in its own thread and connects again when it is lost."""

    def __init__(self, source: LiveInput, stop: threading.Event) -> None:
        """Set up; `with` starts and ends the thread.

        Args:
            source: what to connect to.
            stop: ends the thread, and is set by nobody here.
        """
        self.frames: Mailbox[Frame] = Mailbox()
        """The newest frame, for the inference."""
        self.newest: Frame | None = None
        """The same, for whoever only looks."""
        self.captured = 0
        """Frames since the start."""
        self.period_s = 0.0
        """Between two frames, on average lately; 0 while unknown."""
        self.reconnects = 0
        self.connected = False
        self.finished = False
        """True once a file came to its end."""
        self.problem: SourceError | None = None
        """Why it is not connected; the last reason if it is again."""
        self.problems: list[str] = []
        """What a file's end had to say."""
        self._source = source
        self._stop = stop
        self._first = threading.Event()
        self._opened = False
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)

    def wait_for_first(self) -> None:
        """Wait until there is a frame.

        Raises:
            SourceError: the source refused, or showed nothing in time.
        """
        start = time.monotonic()
        while not self._first.wait(_LOOK_S) and not self._stop.is_set():
            patience = FIRST_FRAME_S if self._opened else CONNECT_S
            if time.monotonic() - start > patience:
                raise SourceError(f"{self._source.name}: no frame within {patience:g} seconds")
        if not self.captured and not self._stop.is_set():
            raise self.problem or SourceError(f"{self._source.name}: holds no frame")

    def _run(self) -> None:
        back_off = BackOff(_BACK_OFF_S, _BACK_OFF_CAP_S)
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                with self._source.connect(self._stop) as source:
                    self._opened = True
                    self._read(source)
                if not self._source.returns:
                    self.problems = list(source.problems)
                    break
            except RwkvEdgeError as error:
                self.problem = SourceError(str(error))
            except Exception as error:  # a driver's; nothing that it throws may end the stream
                self.problem = SourceError(f"{self._source.name}: {type(error).__name__}")
            self.connected = False
            self._first.set()
            if not self._source.returns:
                break
            if time.monotonic() - began > _STEADY_S:
                back_off.reset()
            self._stop.wait(back_off.next())
        self.connected = False
        self.finished = True
        self._first.set()

    def _read(self, source: Source) -> None:
        for frame in source:
            if self._stop.is_set():
                return
            if problem := size_problem(*frame.image.shape[:2]):
                raise SourceError(f"{self._source.name}: {problem}")
            if self.connected and self.newest is not None:
                gap = min(frame.captured - self.newest.captured, _MAX_GAP_S)
                self.period_s += (gap - self.period_s) / _GAPS
            self.reconnects += not self.connected and self.captured > 0
            self.connected = True
            self.captured += 1
            self.newest = frame
            self.frames.put(frame)
            self._first.set()

    def __enter__(self) -> Capture:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self.frames.close()
        self._thread.join(_JOIN_S)
