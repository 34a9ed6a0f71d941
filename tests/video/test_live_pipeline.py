"""The live path in this process: sources and runners that misbehave on purpose."""

from __future__ import annotations

import ast
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rwkv_edge.video
from rwkv_edge.errors import BackendError, OutputError, SourceError
from rwkv_edge.preprocess import FloatArray, UInt8Array
from rwkv_edge.video.base import Frame, Source
from rwkv_edge.video.capture import Capture
from rwkv_edge.video.inference import Inference, LiveRunner
from rwkv_edge.video.live import Controls, LiveFrame, Signal, View
from rwkv_edge.video.live_pipeline import MASK_MAX_AGE_S, LivePipeline
from rwkv_edge.video.live_sink import Outlet
from rwkv_edge.video.live_source import LiveInput
from rwkv_edge.video.segmenting import FrameSegmenter

SIZE = (64, 64)


def bright(image: UInt8Array) -> FloatArray:
    return image.mean(axis=3, dtype=np.float32)[:, None] / 255


class Runner:
    def __init__(
        self, run: Callable[[UInt8Array], FloatArray] = bright, backend: str = "test"
    ) -> None:
        self.run, self.backend, self.closed = run, backend, False

    def __call__(self, image: UInt8Array) -> FloatArray:
        return self.run(image)

    def close(self) -> None:
        self.closed = True


class Camera(Source):
    """Delivers numbered frames until it is unplugged."""

    kind = "camera"

    def __init__(self, live: Live) -> None:
        super().__init__()
        self._live = live
        if not live.plugged.is_set():
            raise SourceError("camera 0 cannot be opened")

    def __iter__(self) -> Iterator[Frame]:
        for index in range(1_000_000):
            time.sleep(1 / 30)
            self._live.flowing.wait(30)
            if not self._live.plugged.is_set():
                raise SourceError("camera 0 stopped")
            image = np.full((*self._live.size, 3), 20, np.uint8)
            image[40:72, 100:132] = 220
            yield Frame(index, index / 30, image, str(index), time.monotonic())


class Collect:
    def __init__(self, delay_s: float = 0.0) -> None:
        self.frames: list[tuple[float, LiveFrame]] = []
        self._delay_s = delay_s

    def write(self, frame: LiveFrame) -> None:
        self.frames.append((time.monotonic(), frame))
        time.sleep(self._delay_s)

    def close(self) -> None:
        pass


class Live:
    """A whole live path in threads of this process."""

    def __init__(
        self,
        runner: Runner | None = None,
        sinks: tuple[object, ...] = (),
        fallback: Callable[[], LiveRunner] | None = None,
        view: View | None = None,
        **options: Any,
    ) -> None:
        self.stop, self.plugged = threading.Event(), threading.Event()
        self.flowing = threading.Event()
        self.plugged.set()
        self.flowing.set()
        self.size = (120, 240)
        self.sink, self.controls = Collect(), Controls(view)
        self._runner, self._fallback, self._options = runner or Runner(), fallback, options
        self._sinks = sinks
        self._stack = ExitStack()

    def __enter__(self) -> Live:
        source = LiveInput("camera 0", lambda _: Camera(self), returns=True)
        self.capture = self._stack.enter_context(Capture(source, self.stop))
        self.capture.wait_for_first()
        self.inference = self._stack.enter_context(
            Inference(
                self.capture.frames,
                self._runner,
                lambda r: FrameSegmenter(r, SIZE, ["polyp"]),
                self.controls,
                self.stop,
                self._fallback,
            )
        )
        self.pipeline = LivePipeline(
            self.capture,
            self.inference,
            [self.sink, *self._sinks],  # type: ignore[list-item]
            self.controls,
            self.stop,
            **self._options,
        )
        self._thread = threading.Thread(target=self.pipeline.run)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        self._thread.join(5)
        assert not self._thread.is_alive()
        self._stack.close()

    def wait_for(self, wanted: Callable[[LiveFrame], bool], seconds: float = 10) -> LiveFrame:
        start = len(self.sink.frames)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = next((f for _, f in self.sink.frames[start:] if wanted(f)), None)
            if found is not None:
                return found
            time.sleep(0.01)
        raise AssertionError([f.signal for _, f in self.sink.frames[-3:]])


def has_mask(frame: LiveFrame) -> bool:
    return frame.result is not None and frame.signal is Signal.LIVE


def test_masks_are_shown_and_nothing_is_left_running() -> None:
    runner = Runner()
    with Live(runner) as live:
        shown = live.wait_for(has_mask)
        live.wait_for(lambda f: f.fps > 5)
    assert shown.result is not None
    np.testing.assert_allclose(shown.result.components[0].box, (100, 40, 32, 32), atol=3)
    assert shown.backend == "test"
    assert not {"capture", "inference"} & {thread.name for thread in threading.enumerate()}
    assert runner.closed


def test_a_slow_model_gets_the_newest_frame_and_no_old_mask_is_drawn() -> None:
    def slow(image: UInt8Array) -> FloatArray:
        time.sleep(0.25)
        return bright(image)

    with Live(Runner(slow)) as live:
        live.wait_for(lambda f: f.dropped > 20)
        results, captured = live.pipeline.statistics.results, live.capture.captured
        summary = live.pipeline.summary()
    assert summary["masks_shown"] == 0
    assert results >= 3
    assert captured > 4 * results
    # everything was segmented, dropped, or is one of the two that may wait
    assert captured - live.capture.frames.dropped - results <= 5
    for shown_at, frame in live.sink.frames:
        assert frame.result is None
        assert shown_at - frame.captured < MASK_MAX_AGE_S  # but the picture itself is fresh


def test_no_mask_is_ever_shown_late() -> None:
    rng = np.random.default_rng(0)

    def uneven(image: UInt8Array) -> FloatArray:
        time.sleep(float(rng.uniform(0.0, 0.4)))
        return bright(image)

    with Live(Runner(uneven)) as live:
        live.wait_for(lambda f: live.pipeline.statistics.results >= 12)
    for _, frame in live.sink.frames:
        if frame.result is not None:
            spent = sum(frame.result.latency_ms[s] for s in ("preprocess", "inference"))
            assert spent < 1e3 * MASK_MAX_AGE_S


def test_an_unplugged_camera_comes_back() -> None:
    with Live() as live:
        live.wait_for(has_mask)
        live.plugged.clear()
        start = time.monotonic()
        lost = live.wait_for(lambda f: f.signal is Signal.RECONNECTING)
        assert time.monotonic() - start < 3
        assert lost.result is None
        assert lost.frame is None
        live.plugged.set()
        live.wait_for(has_mask, 5)
        assert live.capture.reconnects == 1


def test_a_file_that_has_ended_says_so() -> None:
    def slow(image: UInt8Array) -> FloatArray:
        time.sleep(1.5)
        return bright(image)

    with Live(Runner(slow)) as live:
        live.wait_for(lambda f: f.signal is Signal.LIVE)
        live.capture._source = LiveInput("a.mp4", lambda _: Camera(live), returns=False)
        live.plugged.clear()
        assert live.wait_for(lambda f: f.signal is not Signal.LIVE).signal is Signal.ENDED


def test_a_source_that_is_silent_is_stalled_and_then_no_signal() -> None:
    with Live() as live:
        live.wait_for(has_mask)
        live.flowing.clear()  # the driver hangs inside its read
        stalled = live.wait_for(lambda f: f.signal is Signal.STALLED, 3)
        gone = live.wait_for(lambda f: f.signal is Signal.NO_SIGNAL, 4)
        live.flowing.set()
        live.wait_for(has_mask)
    assert stalled.result is None
    assert gone.result is None
    assert gone.image[80:100].max() == 0  # between the words: black


def test_another_resolution_in_mid_stream() -> None:
    with Live() as live:
        live.wait_for(has_mask)
        live.size = (200, 400)
        shown = live.wait_for(lambda f: has_mask(f) and f.image.shape[0] == 200)
    assert shown.result is not None
    assert shown.result.mask.shape == (200, 400)
    np.testing.assert_allclose(shown.result.components[0].box, (100, 40, 32, 32), atol=4)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 1.0])
def test_output_that_cannot_be_is_withheld_and_flagged(value: float) -> None:
    with Live(Runner(lambda image: np.full((1, 1, *SIZE), value, np.float32))) as live:
        shown = live.wait_for(has_mask)
    assert shown.result is not None
    assert not shown.result.valid
    assert not shown.result.mask.any()
    amber = np.all(shown.image == (0, 215, 255), axis=2)
    assert amber.sum() > 100  # OUTPUT INVALID


def test_a_runner_that_raises_is_named_while_the_picture_goes_on() -> None:
    broken = threading.Event()

    def moody(image: UInt8Array) -> FloatArray:
        if broken.is_set():
            raise BackendError("the GPU fell off rtsp://me:sesame@box")
        return bright(image)

    with Live(Runner(moody)) as live:
        live.wait_for(has_mask)
        broken.set()
        live.wait_for(lambda f: f.result is None and f.signal is Signal.LIVE)
        assert "the GPU fell off" in live.inference.failure
        assert "sesame" not in live.inference.failure
        broken.clear()
        live.wait_for(has_mask)  # it is tried again
        assert live.inference.failure == ""


def test_another_backend_only_where_it_was_allowed() -> None:
    def lost(image: UInt8Array) -> FloatArray:
        if image.any():
            raise BackendError("lost")
        return bright(image)

    first, second = Runner(lost, "first"), Runner(backend="second")
    with Live(first, fallback=lambda: second) as live:
        shown = live.wait_for(has_mask)
        assert shown.backend == "second"
        assert live.pipeline.summary()["fell_back"]
    assert first.closed
    assert second.closed


def test_a_runner_that_hangs_does_not_hold_the_end_up() -> None:
    go_on = threading.Event()

    def hang(image: UInt8Array) -> FloatArray:
        if image.any():
            go_on.wait(30)
        return bright(image)

    runner = Runner(hang)
    with Live(runner) as live:
        live.wait_for(lambda f: live.capture.captured > 10)
        start = time.monotonic()
    assert time.monotonic() - start < 5
    assert not runner.closed  # it is still in use
    go_on.set()


def test_a_sink_that_fails_ends_alone() -> None:
    class Full(Collect):
        def write(self, frame: LiveFrame) -> None:
            raise OutputError("no space left")

    told: list[str] = []
    with Live(sinks=(Full(),), tell=told.append) as live:
        live.wait_for(lambda f: has_mask(f) and bool(live.pipeline.problems))
        live.wait_for(has_mask)
        assert live.pipeline.problems == ["no space left"]
    assert told == ["LIVE", "no space left"]


def test_an_outlet_that_breaks_says_so_and_records_no_more() -> None:
    class Codec:
        recording = True

        def write(self, frame: LiveFrame) -> None:
            raise ValueError("no such colour")

        def close(self) -> None:
            pass

    outlet = Outlet(Codec())
    with Live(sinks=(outlet,)) as live:
        live.wait_for(lambda _: bool(outlet.notice))
        assert outlet.notice == "an output failed: ValueError: no such colour"
        assert not outlet.recording
        live.wait_for(has_mask)


def test_a_slow_sink_slows_nobody() -> None:
    slow = Collect(delay_s=0.5)
    outlet = Outlet(slow, depth=2)
    with Live(sinks=(outlet,)) as live:
        live.wait_for(lambda f: outlet.dropped >= 10)
        results = live.pipeline.statistics.results
    outlet.close()
    assert results > 4 * len(slow.frames)


def test_frozen_holds_the_picture_and_a_threshold_reaches_the_next_one() -> None:
    with Live() as live:
        live.wait_for(has_mask)
        live.controls.update(frozen=True)
        held = live.wait_for(has_mask)
        time.sleep(0.3)
        later = live.sink.frames[-1][1]
        # inference goes on, and who counts results gets each of them once
        results = [f.result.frame.index for _, f in live.sink.frames if f.result is not None]
        assert results == sorted(set(results))
        assert results[-1] > results[-2] > held.result.frame.index
        assert np.array_equal(later.image, live.wait_for(has_mask).image)
        assert later.captured < time.monotonic() - 0.2
        live.controls.update(frozen=False, confidence=0.99)
        shown = live.wait_for(lambda f: f.result is not None and not f.result.components)
        assert shown.captured > held.captured


def test_nobody_asks_the_wall_clock() -> None:
    """An hour more or less, as the network's time server may give, must not be noticed."""
    for path in Path(rwkv_edge.video.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) != ("time", "time"), path
                assert node.value.id != "datetime", path
