"""Between the pipeline's thread and the viewers: the newest frame, encoded once if watched."""

from __future__ import annotations

import asyncio
import json
import random
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

import cv2

from rwkv_edge.errors import OutputError
from rwkv_edge.preprocess import UInt8Array
from rwkv_edge.video.live import Controls, LiveFrame, Signal
from rwkv_edge.video.result import Result
from rwkv_edge.web.events import Event, EventLog
from rwkv_edge.web.metrics import Metrics, processing_ms

_STALE_S = (1.0, 2.0)
"""Without a frame for so long the signal counts as stalled, whatever the last frame said: three
frames' time, within these limits."""
_QUALITY = 85
CLOCK = 90_000
"""Ticks of a moment's stamp a second, as RTP counts them."""
_HEAD = struct.Struct("<ddI")
"""In front of each message: the picture's age and the wait for it in seconds, the JSON's length."""


class WebSink:
    """What the pipeline writes to.

    `write` keeps the newest frame and rings a bell; it knows no viewer, so none can hold it up.
    """

    def __init__(self, *, can_record: bool = True) -> None:
        """Set up; `can_record` tells the viewers whether recording can be asked for."""
        self.can_record = can_record
        self._lock = threading.Lock()
        self._frame: LiveFrame | None = None
        self._number = 0
        self._written = 0.0
        self._closed = False
        self._bell: Callable[[], None] | None = None
        self._events = EventLog()
        self.metrics = Metrics()

    def write(self, frame: LiveFrame) -> None:
        """Take the newest frame; called from the pipeline's output thread."""
        now = time.monotonic()
        with self._lock:
            self._frame, self._written = frame, now
            self._number += 1
            self.metrics.observe(frame, now)
            self._events.observe(frame, now)
            bell = self._bell
        if bell is not None:
            bell()

    def report(self, text: str) -> None:
        """Put an error into the list of events, from any thread; said twice it is listed once."""
        with self._lock:
            self._events.report(text)

    def close(self) -> None:
        """Say that no frame will follow; viewers are told NO SIGNAL."""
        with self._lock:
            self._closed = True
            bell = self._bell
        if bell is not None:
            bell()

    def on_write(self, bell: Callable[[], None] | None) -> None:
        """Have `bell` called, in the writer's thread, after every frame; None takes it away."""
        self._bell = bell

    def newest(self) -> tuple[int, LiveFrame | None]:
        """Return the newest frame and its number, 0 before the first."""
        with self._lock:
            return self._number, self._frame

    @property
    def signal(self) -> Signal:
        """What is known about the source, never more than the pipeline's silence allows."""
        with self._lock:
            if self._closed or self._frame is None:
                return Signal.NO_SIGNAL
            silent = time.monotonic() - self._written > patience(self._frame.fps)
            live = self._frame.signal is Signal.LIVE
            return Signal.STALLED if silent and live else self._frame.signal

    def events(self, after: int = 0) -> list[Event]:
        """Return the kept events whose id is above `after`, oldest first."""
        with self._lock:
            return self._events.after(after)

    @property
    def event_count(self) -> int:
        """The id of the newest event."""
        with self._lock:
            return self._events.count

    def metrics_text(self, viewers: int) -> str:
        """Return the figures in Prometheus' format."""
        signal = self.signal
        with self._lock:
            return self.metrics.text(self._frame, signal, time.monotonic(), viewers)


@dataclass(frozen=True)
class Moment:
    """One frame as every viewer gets it."""

    number: int
    captured: float
    status: bytes
    """JSON."""
    jpeg: bytes
    """Empty where no viewer wanted one."""
    image: UInt8Array | None = None
    stamp: int = 0
    """When it was made, for WebRTC, whose frames carry it."""

    def message(self, asked: float, *, with_picture: bool = True) -> bytes:
        """Return it for the WebSocket: age, wait, length, JSON, JPEG.

        Args:
            asked: time.monotonic() at which the viewer asked for it. What passes at the viewer
                between its asking and the arrival, and is no wait here, is the way: so it knows how
                old the picture is that it gets over a slow one.
        """
        now = time.monotonic()
        head = _HEAD.pack(now - self.captured, now - asked, len(self.status))
        return head + self.status + (self.jpeg if with_picture else b"")


@dataclass
class Viewer:
    """Somebody who watches."""

    wants_jpeg: bool = True
    """False: the picture comes another way, and the state alone is asked for."""


class Broadcast:
    """The viewers' side; lives in the server's event loop.

    There is one newest `Moment`. A viewer asks for one that is newer than what it has, so a slow
    one misses some, and nothing queues up for anybody.
    """

    def __init__(self, sink: WebSink, controls: Controls, max_viewers: int) -> None:
        self._sink = sink
        self._controls = controls
        self._max_viewers = max_viewers
        self._viewers: list[Viewer] = []
        self.webrtc = False
        """Whether viewers may ask for the picture by WebRTC."""
        self.closing = False
        """The server is about to end; endless answers end with it."""
        self._moment = Moment(0, time.monotonic(), b"{}", b"")
        self._fresh = asyncio.Event()
        self._wake = asyncio.Event()
        self._rung = False

    @property
    def viewers(self) -> int:
        """How many watch."""
        return len(self._viewers)

    async def run(self) -> None:
        """Encode the newest frame whenever there is one and somebody watches; until cancelled."""
        loop = asyncio.get_running_loop()

        def wake() -> None:
            self._rung = False
            self._wake.set()

        def bell() -> None:
            if not self._rung and self.viewers:
                self._rung = True
                with suppress(RuntimeError):  # the server has just stopped
                    loop.call_soon_threadsafe(wake)

        self._sink.on_write(bell)
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                number, frame = self._sink.newest()
                wanted = any(viewer.wants_jpeg for viewer in self._viewers)
                known = number == self._moment.number and (self._moment.jpeg or not wanted)
                if frame is None or not self._viewers or known:
                    continue
                try:
                    jpeg = await asyncio.to_thread(encode_jpeg, frame.image) if wanted else b""
                    stamp = self._next_stamp()
                    status = self._status_json(number, frame, stamp=stamp % 2**32)
                except Exception as error:  # one odd frame must not end the picture for good
                    self._sink.report(f"a frame was not shown: {error}")
                    continue
                self._sink.metrics.encoded += wanted
                self._moment = Moment(number, frame.captured, status, jpeg, frame.image, stamp)
                fresh, self._fresh = self._fresh, asyncio.Event()
                fresh.set()
        finally:
            self._sink.on_write(None)

    @contextmanager
    def watching(self) -> Iterator[Viewer | None]:
        """Count a viewer for as long as the block runs; None: there are too many already."""
        if self.viewers >= self._max_viewers:
            self._sink.metrics.refused += 1
            yield None
            return
        viewer = Viewer()
        self._viewers.append(viewer)
        self._wake.set()
        try:
            yield viewer
        finally:
            self._viewers = [other for other in self._viewers if other is not viewer]

    async def newer(self, number: int, timeout: float) -> Moment | None:
        """Wait for a moment after `number`; None: there was none for `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self._moment.number <= number:
            try:
                await asyncio.wait_for(self._fresh.wait(), deadline - time.monotonic())
            except (TimeoutError, asyncio.TimeoutError):  # two classes before Python 3.11
                return None
        return self._moment

    def heartbeat(self, asked: float) -> bytes:
        """Return the state without a picture, for when there is no new one; see `message`."""
        number, frame = self._sink.newest()
        status = self._status_json(number, frame)
        captured = frame.captured if frame else time.monotonic()
        return Moment(number, captured, status, b"").message(asked, with_picture=False)

    def _next_stamp(self) -> int:
        # a millisecond's ticks are drawn at random, so that no two gaps between stamps are alike:
        # by them a browser finds out which frame it shows (static/webrtc.js)
        stamp = round(time.monotonic() * CLOCK) + random.randrange(CLOCK // 1000)
        return max(stamp, self._moment.stamp + 1)

    def _status_json(self, number: int, frame: LiveFrame | None, **more: int) -> bytes:
        return json.dumps(self.status(number, frame) | more, allow_nan=False).encode()

    def status(self, number: int, frame: LiveFrame | None) -> dict[str, Any]:
        """Return what the page shows beside the picture."""
        words: dict[str, Any] = {
            "frame": number,
            "signal": self._sink.signal.value,
            "can_record": self._sink.can_record,
            "webrtc": self.webrtc,
            "view": asdict(self._controls.view),
            "events": self._sink.event_count,
            "age": None,
        }
        if frame is not None:
            result = frame.result
            words |= {
                "age": round(time.monotonic() - frame.captured, 4),
                "patience": patience(frame.fps),
                "fps": round(frame.fps, 1),
                "dropped": frame.dropped,
                "recording": frame.recording,
                "backend": frame.backend,
                "latency_ms": None if result is None else round(processing_ms(frame) or 0.0, 1),
                "valid": result is None or result.valid,
                "findings": [] if result is None else _findings(result),
            }
        return words


def patience(fps: float) -> float:
    """Return the seconds after which a picture without successor is no longer a live one."""
    least, most = _STALE_S
    return min(most, max(least, 3 / fps)) if fps > 0 else most


def _findings(result: Result) -> list[dict[str, Any]]:
    return [
        {"class": result.names[component.label - 1], "confidence": round(component.confidence, 3)}
        for component in result.components
    ]


def encode_jpeg(image: UInt8Array, quality: int = _QUALITY) -> bytes:
    """Return a JPEG.

    Raises:
        OutputError: OpenCV cannot encode it.
    """
    try:
        good, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    except cv2.error:
        good = False
    if not good:
        raise OutputError(f"a picture of {image.shape} {image.dtype} cannot become a JPEG")
    return data.tobytes()
