"""The thread that segments the newest frame, and says so when it cannot."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Protocol

from rwkv_edge.preprocess import FloatArray, UInt8Array
from rwkv_edge.video.base import Frame
from rwkv_edge.video.field_of_view import FieldOfView
from rwkv_edge.video.live import Controls
from rwkv_edge.video.mailbox import Mailbox
from rwkv_edge.video.redact import redact
from rwkv_edge.video.result import Result
from rwkv_edge.video.segmenting import STAGES, FrameSegmenter

_WAIT_S = 0.2
_RETRY_S = 1.0  # between two attempts with a runner that fails
_JOIN_S = 4.0


class LiveRunner(Protocol):
    """What `runtime.Runner` offers, as far as it is needed here."""

    backend: str

    def __call__(self, image: UInt8Array) -> FloatArray:
        """Map (N, H, W, 3) uint8 BGR to (N, classes, H, W) float32 probabilities."""

    def close(self) -> None:
        """Release what it holds."""


class Inference:
    """Segments frames in its own thread. It survives whatever the runner throws."""

    def __init__(
        self,
        frames: Mailbox[Frame],
        runner: LiveRunner,
        make_segmenter: Callable[[LiveRunner], FrameSegmenter],
        controls: Controls,
        stop: threading.Event,
        fallback: Callable[[], LiveRunner] | None = None,
    ) -> None:
        """Set up and warm up; `with` starts and ends the thread.

        Args:
            frames: where the newest frame lies.
            runner: closed by this object.
            make_segmenter: what a stream through a runner begins with.
            controls: tell the confidence.
            stop: ends the thread.
            fallback: opens another runner, once, when the first fails.
        """
        self.results: Mailbox[Result] = Mailbox()
        self.failure = ""
        """Why there are no results now, in a line; empty while there are."""
        self.failures = 0
        self.fell_back = False
        self._frames, self._controls, self._stop = frames, controls, stop
        self._runner, self._make, self._fallback = runner, make_segmenter, fallback
        self._segment = make_segmenter(runner)
        self._segment.warm_up()
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)

    @property
    def backend(self) -> str:
        """What runs now, in words."""
        return self._runner.backend

    @property
    def view(self) -> FieldOfView | None:
        """The field of view of the last frame."""
        return self._segment.view

    @property
    def flicker(self) -> float | None:
        """See `Smoother.flicker`; since the last change of runner."""
        return self._segment.flicker

    def _run(self) -> None:
        while not self._stop.is_set():
            frame = self._frames.get(_WAIT_S)
            if frame is None:
                continue
            latency = dict.fromkeys(STAGES, 0.0)
            try:
                result = self._segment(frame, latency, self._controls.view.confidence)
            except Exception as error:  # a lost GPU raises anything
                self._lost(error)
                continue
            self.failure = ""
            self.results.put(result)

    def _lost(self, error: Exception) -> None:
        self.failures += 1
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        self.failure = redact(f"INFERENCE FAILED: {reason}")
        if self._fallback is None:
            self._stop.wait(_RETRY_S)
            return
        open_fallback, self._fallback = self._fallback, None
        try:
            other = open_fallback()
            segment = self._make(other)
            segment.warm_up()
        except Exception as second:
            self.failure = redact(f"{self.failure}; no other backend: {second}")
            return
        lost, self._runner, self._segment = self._runner, other, segment
        self.fell_back = True
        # on a lost GPU this may raise anything, or never return
        threading.Thread(target=_close_quietly, args=(lost,), daemon=True).start()

    def __enter__(self) -> Inference:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._frames.close()
        self.results.close()
        self._thread.join(_JOIN_S)
        if not self._thread.is_alive():  # closing under a call that hangs would crash
            self._runner.close()


def _close_quietly(runner: LiveRunner) -> None:
    with suppress(Exception):
        runner.close()
