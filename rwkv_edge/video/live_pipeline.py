"""Live: the newest frame with its mask on every sink, and the plain truth where there is none.

Capture and inference have a thread each and hand over through mailboxes of one; drawing and the
sinks run in the caller's, because windows must. All times are `time.monotonic()`.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from rwkv_edge.config import Outside
from rwkv_edge.errors import OutputError
from rwkv_edge.video.base import Frame
from rwkv_edge.video.capture import Capture
from rwkv_edge.video.inference import Inference
from rwkv_edge.video.live import Controls, LiveFrame, Signal
from rwkv_edge.video.live_overlay import draw_mask_screen, draw_plain_screen
from rwkv_edge.video.live_sink import LiveSink
from rwkv_edge.video.live_statistics import LiveStatistics
from rwkv_edge.video.outside import hide_outside, hide_outside_result
from rwkv_edge.video.result import Result
from rwkv_edge.video.segmenting import timed

MASK_MAX_AGE_S = 0.2
"""A mask older than this is not drawn: the tissue has moved on."""
STALLED_S, NO_SIGNAL_S = 0.5, 2.0
"""Without a frame for so long, the signal counts as stalled, and as lost."""
_TICK_S = 0.02  # how long the screen waits for a result before it looks at the rest
_IDLE_S = 0.2  # how often the screen is drawn while nothing comes
_END_S = 1.0  # what the last frames of a file get to pass through
_RATE_WINDOW_S = 2.0


class LivePipeline:
    """Draws what there is to see and hands it to the sinks until it is told to stop."""

    def __init__(
        self,
        capture: Capture,
        inference: Inference,
        sinks: Sequence[LiveSink],
        controls: Controls,
        stop: threading.Event,
        *,
        outside: Outside = Outside.SHOW,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Set up.

        Args:
            capture: running.
            inference: running.
            sinks: get every picture; the caller closes them.
            controls: what viewers may change.
            stop: ends `run`; set by a sink that asks for it, too.
            outside: what becomes of the picture outside the field of view, on every sink.
            tell: gets a line when the signal changes or something fails.
        """
        self._capture, self._inference = capture, inference
        self._sinks = list(sinks)
        self._controls, self._stop = controls, stop
        self._outside = outside
        self._tell = tell
        self._told: tuple[str, ...] = ()
        self.statistics = LiveStatistics()
        self.problems: list[str] = []
        """Sinks that failed; the rest went on."""
        self._result: Result | None = None
        self._held: LiveFrame | None = None
        self._done: deque[float] = deque(maxlen=1000)
        self._shown: Frame | None = None
        self._drawn_at = 0.0
        self._dropped_before = capture.frames.dropped  # while the model was loaded

    def run(self, seconds: float | None = None) -> None:
        """Show until stopped, the file's end, or so many seconds."""
        start = time.monotonic()
        while not self._stop.is_set():
            if seconds is not None and time.monotonic() - start >= seconds:
                break
            result = self._inference.results.get(_TICK_S)
            if result is not None:
                self._result = result
                self.statistics.add_result(result)
                self._done.append(time.monotonic())
            if result is not None or self._is_due():
                self._show(result)
            if self._is_over():
                break

    def summary(self) -> dict[str, Any]:
        """Return counts, percentiles and the flicker figure."""
        flicker = self._inference.flicker
        return {
            "frames_captured": self._capture.captured,
            "frames_dropped": self._dropped,
            "dropped_by_slow_outputs": sum(getattr(sink, "dropped", 0) for sink in self._sinks),
            "reconnects": self._capture.reconnects,
            **self.statistics.summary(),
            "flicker": None if flicker is None else round(flicker, 6),
            "inference_failures": self._inference.failures,
            "fell_back": self._inference.fell_back,
            "problems": [*self._capture.problems, *self.problems, *self._notices()],
            "backend": self._inference.backend,
        }

    @property
    def _dropped(self) -> int:
        return self._capture.frames.dropped - self._dropped_before

    def _is_due(self) -> bool:
        """Tell whether the screen needs drawing although no result came."""
        now = time.monotonic()
        if self._result is not None and now - self._result.frame.captured <= MASK_MAX_AGE_S:
            return False
        return self._capture.newest is not self._shown or now - self._drawn_at > _IDLE_S

    def _is_over(self) -> bool:
        if not self._capture.finished:
            return False
        newest, result = self._capture.newest, self._result
        if newest is None or (result is not None and result.frame is newest):
            return True
        return time.monotonic() - newest.captured > _END_S

    def _show(self, new: Result | None) -> None:
        picture, result = self._compose(new)
        self._shown, self._drawn_at = self._capture.newest, time.monotonic()
        for sink in list(self._sinks):
            try:
                sink.write(picture)
            except OutputError as error:  # the others go on
                self._sinks.remove(sink)
                self.problems.append(str(error))
            if getattr(sink, "stopped", False):
                self._stop.set()
        self._report_changes(picture.signal)
        if result is not None:
            result.latency_ms["write"] = (time.monotonic() - self._drawn_at) * 1e3
            self.statistics.add_shown(result, time.monotonic() - result.frame.captured)
        else:
            self.statistics.without_mask += 1

    def _compose(self, new: Result | None) -> tuple[LiveFrame, Result | None]:
        """Draw one screen; return it and the result that it shows for the first time.

        Args:
            new: what came since the last screen; who counts or writes results gets it even while
                the picture is held.
        """
        now = time.monotonic()
        view, result, newest = self._controls.view, self._result, self._capture.newest
        signal = self._signal(now, newest)
        if view.frozen and self._held is not None:
            held = replace(
                self._held,
                result=new and hide_outside_result(new, self._outside),
                signal=signal,
                fps=self._rate(now),
                dropped=self._dropped,
                recording=self._recording,
                backend=self._inference.backend,
            )
            return held, None
        holds = view.frozen and signal is Signal.LIVE  # nothing else is worth a longer look
        shown: Frame | None
        frame: Frame | None
        fresh = result is not None and now - result.frame.captured <= MASK_MAX_AGE_S
        if result is not None and fresh and signal is Signal.LIVE:
            result = hide_outside_result(result, self._outside)
            with timed(result.latency_ms, "draw"):
                image = draw_mask_screen(result, self._head(signal, now, result.frame, holds), view)
            shown = frame = result.frame
        else:
            shown = newest and hide_outside(newest, self._inference.view, self._outside)
            head = self._head(signal, now, shown, holds)
            warning = self._inference.failure or "NO FRESH MASK"
            image = draw_plain_screen(None if shown is None else shown.image, head, signal, warning)
            frame = shown if signal is Signal.LIVE else None
            result = None
        picture = LiveFrame(
            image=image,
            result=result,
            signal=signal,
            captured=now if shown is None else shown.captured,
            fps=self._rate(now),
            dropped=self._dropped,
            recording=self._recording,
            backend=self._inference.backend,
            frame=frame,
        )
        self._held = picture if holds else None
        return picture, result

    @property
    def _recording(self) -> bool:
        return any(getattr(sink, "recording", False) for sink in self._sinks)

    def _signal(self, now: float, newest: Frame | None) -> Signal:
        age = now - newest.captured if newest else float("inf")
        if age <= self._stalled_after():
            return Signal.LIVE
        if self._capture.finished:
            return Signal.ENDED
        if not self._capture.connected:
            return Signal.RECONNECTING
        return Signal.STALLED if age <= NO_SIGNAL_S else Signal.NO_SIGNAL

    def _stalled_after(self) -> float:
        # a source of one frame a second is not stalled between two
        return min(max(STALLED_S, 3 * self._capture.period_s), NO_SIGNAL_S)

    def _head(self, signal: Signal, now: float, frame: Frame | None, holds: bool) -> list[str]:
        if holds:  # nothing that is true of this moment alone
            words = ["FROZEN"]
        else:
            words = [signal.value, f"{self._rate(now):.1f} fps"]
            if frame is not None:
                words.append(f"age {1e3 * (now - frame.captured):.0f} ms")
            words.append(f"dropped {self._dropped}")
            if self._recording:
                words.append("REC")
        lines = ["  ".join(words), self._inference.backend]
        if self._inference.fell_back:
            lines.append("FALLBACK: the chosen backend failed")
        return [*lines, *self._notices(), *self.problems[-2:]]

    def _notices(self) -> list[str]:
        return [notice for sink in self._sinks if (notice := getattr(sink, "notice", ""))]

    def _report_changes(self, signal: Signal) -> None:
        """Tell what changed, for who reads a log and sees no screen."""
        words = [signal.value]
        if signal is Signal.RECONNECTING and self._capture.problem:
            words.append(str(self._capture.problem))
        now = ("; ".join(words), self._inference.failure, *self._notices(), *self.problems)
        for line in now:
            if line and line not in self._told:
                self._tell(line)
        self._told = now

    def _rate(self, now: float) -> float:
        while self._done and now - self._done[0] > _RATE_WINDOW_S:
            self._done.popleft()
        if len(self._done) < 2:
            return 0.0
        return (len(self._done) - 1) / max(self._done[-1] - self._done[0], 1e-9)
