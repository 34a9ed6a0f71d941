"""The loop: capture, preprocess, inference, postprocess, draw, write, each timed on every frame."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from rwkv_edge.config import DEFAULT_CONFIDENCE
from rwkv_edge.preprocess import FloatArray, UInt8Array
from rwkv_edge.video.base import Frame
from rwkv_edge.video.overlay import draw_overlay
from rwkv_edge.video.result import Result
from rwkv_edge.video.segmenting import STAGES, FrameSegmenter, timed
from rwkv_edge.video.sink import Sink

_RATE_WINDOW = 30  # frames over which the displayed frame rate is taken


class Pipeline:
    """Segments frames one by one with a runner, draws the result and hands it to the sinks."""

    def __init__(
        self,
        runner: Callable[[UInt8Array], FloatArray],
        input_size: tuple[int, int],
        names: Sequence[str],
        *,
        backend: str = "",
        confidence: float = DEFAULT_CONFIDENCE,
        alpha: float = 0.35,
        sinks: Sequence[Sink] = (),
        draw: bool = True,
    ) -> None:
        """Set up.

        Args:
            runner: maps (N, H, W, 3) uint8 BGR to (N, classes, H, W) float32 probabilities.
            input_size: H and W in pixels.
            names: the classes; one for a binary model, else the background first.
            backend: what runs, in words, shown on the overlay.
            confidence: probability from which a pixel belongs to the mask, 0 to 1.
            alpha: opacity of the fill, 0 to 1.
            sinks: get each result; the caller closes them.
            draw: whether to draw overlays.
        """
        self._segment = FrameSegmenter(runner, input_size, names)
        self._backend = backend
        self._confidence = confidence
        self._alpha = alpha
        self._sinks = sinks
        self._draw = draw
        self._finished: deque[float] = deque(maxlen=_RATE_WINDOW)

    def run(self, frames: Iterable[Frame]) -> Iterator[Result]:
        """Yield the result of each frame once every sink has it, until a sink asks to stop.

        The runner is called once on a black picture first: memory is allocated and kernels are
        chosen on the first call, which would otherwise be the slowest of the run.
        """
        self._segment.warm_up()
        walk = iter(frames)
        while not any(sink.stopped for sink in self._sinks):
            latency = dict.fromkeys(STAGES, 0.0)
            with timed(latency, "capture"):
                frame = next(walk, None)
            if frame is None:
                return
            result = self._segment(frame, latency, self._confidence)
            if self._draw:
                with timed(latency, "draw"):
                    result.overlay = draw_overlay(result, self._head(latency), self._alpha)
            with timed(latency, "write"):
                for sink in self._sinks:
                    sink.write(result)
            self._finished.append(time.perf_counter())
            yield result

    def _head(self, latency: dict[str, float]) -> list[str]:
        """Return the lines for the corner: what it takes from a captured frame to its mask."""
        spent = latency["preprocess"] + latency["inference"] + latency["postprocess"]
        words = f"{spent:.0f} ms"
        if len(self._finished) > 1:
            seconds = self._finished[-1] - self._finished[0]
            words = f"{(len(self._finished) - 1) / max(seconds, 1e-9):.1f} fps  {words}"
        return [words, self._backend] if self._backend else [words]
