"""What happened, as lines for people: findings, signal, recording, errors."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from rwkv_edge.video.live import LiveFrame, Signal

_KEPT = 200
_APPEAR_S, _VANISH_S = 0.3, 1.0
"""A finding is reported once it was there, or away, for so long: a flicker is no event."""


@dataclass(frozen=True)
class Event:
    """One line of the list."""

    id: int
    time: float
    """time.time(), for the reader's clock; nothing is computed from it."""
    kind: str
    """signal, finding, recording or error."""
    text: str

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {"id": self.id, "time": self.time, "kind": self.kind, "text": self.text}


class EventLog:
    """Compares each frame with the one before. Not thread-safe; keeps the last 200 events."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=_KEPT)
        self._count = 0
        self._last: LiveFrame | None = None
        self._valid = True
        self._finding = False
        self._differs_since: float | None = None
        self._began = 0.0

    @property
    def count(self) -> int:
        """Events so far; the id of the newest."""
        return self._count

    def after(self, number: int) -> list[Event]:
        """Return the kept events with a higher id, oldest first."""
        return [event for event in self._events if event.id > number]

    def report(self, text: str) -> None:
        """Add an error, unless it is the newest event already."""
        if not self._events or self._events[-1].text != text:
            self._add("error", text)

    def observe(self, frame: LiveFrame, now: float) -> None:
        """Take notice of a frame at `now`, by time.monotonic()."""
        last, self._last = self._last, frame
        if last is None or last.signal is not frame.signal:
            kind = "signal" if frame.signal is Signal.LIVE else "error"
            self._add(kind, f"signal: {frame.signal.value}")
        if last is None or last.backend != frame.backend:
            self._add("signal", f"runs on {frame.backend}")
        if frame.recording is not (last is not None and last.recording):
            self._add("recording", "recording started" if frame.recording else "recording ended")
        if frame.result is not None and frame.result.valid is not self._valid:
            self._valid = frame.result.valid
            words = "valid again" if self._valid else "invalid: nothing of it is shown"
            self._add("signal" if self._valid else "error", f"the network's output is {words}")
        self._observe_finding(frame, now)

    def _observe_finding(self, frame: LiveFrame, now: float) -> None:
        components = frame.result.components if frame.result is not None else []
        if bool(components) is self._finding:
            self._differs_since = None
            return
        if self._differs_since is None:
            self._differs_since = now
        if now - self._differs_since < (_APPEAR_S if components else _VANISH_S):
            return
        if components and frame.result is not None:
            names = {frame.result.names[component.label - 1] for component in components}
            best = max(component.confidence for component in components)
            self._add("finding", f"{', '.join(sorted(names))} appears, confidence {best:.2f}")
            self._began = self._differs_since
        else:
            seconds = self._differs_since - self._began
            # without a result nobody looked, and that is not the same as «nothing there»
            why = "gone" if frame.result is not None else "unknown, no fresh result"
            self._add("finding", f"finding {why}; it was seen for {seconds:.1f} s")
        self._finding = bool(components)
        self._differs_since = None

    def _add(self, kind: str, text: str) -> None:
        self._count += 1
        self._events.append(Event(self._count, time.time(), kind, text))
