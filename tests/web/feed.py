"""Rendered frames through the shipped network into the live page, until the live path takes over.

To look at the page: `python -m tests.web.feed`, then open the address that it prints.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from rwkv_edge.data.synth import render_clip
from rwkv_edge.preprocess import FloatArray, UInt8Array
from rwkv_edge.runtime.onnxruntime import OnnxRuntimeRunner
from rwkv_edge.video import Frame, Pipeline, Result
from rwkv_edge.video.live import Controls, LiveFrame, Signal
from rwkv_edge.video.overlay import draw_overlay
from rwkv_edge.web.hub import WebSink
from rwkv_edge.weights import shipped_onnx

FPS = 15


class Feed:
    """A stand-in for the live pipeline: obeys `Controls`, writes to a `WebSink`."""

    def __init__(
        self,
        sink: WebSink,
        controls: Controls,
        clip: list[UInt8Array],
        fps: float = FPS,
        *,
        remember: bool = False,
    ) -> None:
        """Set up; `remember` runs the network once a picture, for tests on a busy machine."""
        self._sink = sink
        self._controls = controls
        self._clip = clip
        self._fps = fps
        self._remember = remember
        self._outputs: dict[bytes, FloatArray] = {}
        self.signal = Signal.LIVE
        self.paused = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Feed:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _frames(self) -> Iterator[Frame]:
        there_and_back = itertools.cycle([*self._clip, *self._clip[-2:0:-1]])
        for index, image in enumerate(there_and_back):
            if self._stop.wait(1 / self._fps):
                return
            yield Frame(index, time.monotonic(), image, f"{index:06d}")

    def _segment(self, runner: OnnxRuntimeRunner, batch: UInt8Array) -> FloatArray:
        if not self._remember:
            return runner(batch)
        key = batch.tobytes()
        if key not in self._outputs:
            self._outputs[key] = runner(batch)
        return self._outputs[key]

    def _results(self, runner: OnnxRuntimeRunner) -> Iterator[Result]:
        frames = self._frames()
        while not self._stop.is_set():
            view = self._controls.view
            pipeline = Pipeline(
                partial(self._segment, runner), runner.info.input_size, runner.info.names,
                confidence=view.confidence, draw=False,
            )  # fmt: skip
            for result in pipeline.run(frames):
                yield result
                if self._controls.view.confidence != view.confidence:
                    break

    def _run(self) -> None:
        held: LiveFrame | None = None
        times: deque[float] = deque(maxlen=30)
        with OnnxRuntimeRunner(shipped_onnx("tiny")) as runner:
            for result in self._results(runner):
                if self.paused:
                    continue
                view = self._controls.view
                times.append(time.monotonic())
                fps = (len(times) - 1) / max(times[-1] - times[0], 1e-9)
                live = self.signal is Signal.LIVE
                if held is not None and (view.frozen or not live):
                    image = held.image if live else np.zeros_like(held.image)
                    frame = replace(held, image=image, signal=self.signal)
                    held = replace(held, signal=Signal.LIVE)
                    frame = frame if live else replace(frame, result=None)
                else:
                    frame = held = LiveFrame(
                        draw_overlay(result, alpha=view.fill), result, self.signal,
                        result.frame.time_s, fps, 0, view.recording, runner.backend,
                    )  # fmt: skip
                self._sink.write(replace(frame, recording=view.recording))


def rendered(count: int, size: tuple[int, int], seed: int = 1) -> list[UInt8Array]:
    """Return the pictures of a rendered clip."""
    return [frame.image for frame in render_clip(seed, count, size, FPS, polyps=1)]


def main() -> None:
    from rwkv_edge.web.options import WebOptions
    from rwkv_edge.web.server import WebServer

    sink, controls = WebSink(), Controls()
    with (
        WebServer(sink, controls, WebOptions(port=0)) as server,
        Feed(sink, controls, rendered(60, (480, 640))),
    ):
        print(server.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
