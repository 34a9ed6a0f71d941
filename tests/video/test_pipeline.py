from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from rwkv_edge.preprocess import FloatArray, UInt8Array
from rwkv_edge.video import STAGES, Frame, Pipeline, Result, Statistics
from rwkv_edge.video.sink import Sink

INPUT = (64, 64)
AMBER = np.array([0, 215, 255])


def brightness(image: UInt8Array) -> FloatArray:
    """A runner that knows one thing: bright is polyp."""
    return image.mean(axis=3, dtype=np.float32)[:, None] / 255


def constant(value: float) -> Callable[[UInt8Array], FloatArray]:
    return lambda image: np.full((1, 1, *INPUT), value, np.float32)


def square(size: tuple[int, int] = (128, 256)) -> Frame:
    """A dark frame with a white square of 32 pixels at row 40, column 100."""
    image = np.full((*size, 3), 20, np.uint8)
    image[40:72, 100:132] = 255
    return Frame(0, 0.0, image, "square")


class Collect(Sink):
    def __init__(self, stop_after: int = 10**9, delay_s: float = 0.0) -> None:
        self.results: list[Result] = []
        self._stop_after = stop_after
        self._delay_s = delay_s

    def write(self, result: Result) -> None:
        self.results.append(result)
        time.sleep(self._delay_s)
        self.stopped = len(self.results) >= self._stop_after


def test_the_mask_lies_where_the_square_is() -> None:
    # 128 x 256 goes into 64 x 64 as 16 rows of padding, 32 of picture, 16 of padding
    (result,) = Pipeline(brightness, INPUT, ["polyp"]).run([square()])
    expected = np.zeros((128, 256), bool)
    expected[40:72, 100:132] = True
    assert np.mean((result.mask > 0) != expected) < 0.002
    (component,) = result.components
    np.testing.assert_allclose(component.box, (100, 40, 32, 32), atol=2)
    assert component.confidence > 0.9
    assert result.valid


def test_confidence_is_the_threshold() -> None:
    for confidence, found in ((0.89, True), (0.91, False)):
        pipeline = Pipeline(constant(0.9), INPUT, ["polyp"], confidence=confidence)
        (result,) = pipeline.run([square()])
        assert bool(result.mask.any()) is found


def test_every_stage_is_timed() -> None:
    sink = Collect(delay_s=0.02)

    def slow(image: UInt8Array) -> FloatArray:
        time.sleep(0.03)
        return brightness(image)

    (result,) = Pipeline(slow, INPUT, ["polyp"], sinks=[sink]).run([square()])
    assert tuple(result.latency_ms) == STAGES
    assert all(value > 0 for value in result.latency_ms.values())
    assert result.latency_ms["inference"] >= 30
    assert result.latency_ms["write"] >= 20
    assert result.latency_ms["preprocess"] < 20
    assert result.total_ms == pytest.approx(sum(result.latency_ms.values()))


def test_the_first_call_is_a_warm_up() -> None:
    seen: list[tuple[tuple[int, ...], int]] = []

    def note(image: UInt8Array) -> FloatArray:
        assert image.dtype == np.uint8
        seen.append((image.shape, int(image.max())))
        return brightness(image)

    list(Pipeline(note, INPUT, ["polyp"]).run([square()]))
    assert seen == [((1, 64, 64, 3), 0), ((1, 64, 64, 3), 255)]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.5, -0.5])
def test_what_is_no_probability_is_withheld(value: float) -> None:
    def broken(image: UInt8Array) -> FloatArray:
        output = brightness(image)
        output[0, 0, 5, 7] = value  # one pixel is enough to distrust the rest
        return output

    (result,) = Pipeline(broken, INPUT, ["polyp"]).run([square()])
    assert not result.valid
    assert not result.mask.any()
    assert result.components == []
    assert result.as_dict()["valid"] is False
    assert result.overlay is not None
    assert np.count_nonzero(np.all(result.overlay == AMBER, axis=2)) > 100  # OUTPUT INVALID


def test_a_valid_frame_has_no_warning() -> None:
    (result,) = Pipeline(brightness, INPUT, ["polyp"]).run([square()])
    assert result.overlay is not None
    assert not np.all(result.overlay == AMBER, axis=2).any()


def test_several_classes() -> None:
    def two_halves(image: UInt8Array) -> FloatArray:
        output = np.zeros((1, 3, *INPUT), np.float32)
        output[0, 1, :, :32] = 0.9
        output[0, 2, :, 32:] = 0.8
        return output

    names = ["background", "polyp", "instrument"]
    (result,) = Pipeline(two_halves, INPUT, names).run([square((64, 64))])
    assert result.mask[10, 10] == 1
    assert result.mask[10, 50] == 2
    classes = {part["class"]: part["confidence"] for part in result.as_dict()["components"]}
    assert classes == {"polyp": pytest.approx(0.9), "instrument": pytest.approx(0.8)}


def test_a_sink_can_end_the_run() -> None:
    sink = Collect(stop_after=3)
    results = list(Pipeline(brightness, INPUT, ["polyp"], sinks=[sink]).run([square()] * 9))
    assert len(results) == len(sink.results) == 3


def test_drawing_is_left_out_where_nobody_looks() -> None:
    (result,) = Pipeline(brightness, INPUT, ["polyp"], draw=False).run([square()])
    assert result.overlay is None
    assert result.latency_ms["draw"] == 0


def test_a_frame_is_not_drawn_on() -> None:
    frame = square()
    before = frame.image.copy()
    list(Pipeline(brightness, INPUT, ["polyp"]).run([frame]))
    np.testing.assert_array_equal(frame.image, before)


def test_statistics() -> None:
    statistics = Statistics()
    latencies = np.random.default_rng(0).uniform(1, 50, 200)
    for index, value in enumerate(latencies):
        (result,) = Pipeline(brightness, INPUT, ["polyp"]).run([square()])
        result.latency_ms = dict.fromkeys(STAGES, float(value))
        if index % 4 == 0:
            result.components = []
        result.valid = index >= 3
        statistics.add(result)
    summary = statistics.summary()
    assert (summary["frames"], summary["frames_with_finding"]) == (200, 150)
    assert summary["invalid_frames"] == 3
    p50, p90, p99 = np.percentile(latencies, [50, 90, 99])
    for stage in STAGES:
        expected = {"p50": p50, "p90": p90, "p99": p99}
        assert summary["latency_ms"][stage] == pytest.approx(expected, abs=1e-3)
    assert summary["latency_ms"]["total"]["p50"] == pytest.approx(6 * p50, abs=1e-2)


def test_frame_rate_is_that_of_the_clock() -> None:
    statistics = Statistics()
    sink = Collect(delay_s=0.05)
    for result in Pipeline(brightness, INPUT, ["polyp"], sinks=[sink]).run([square()] * 10):
        statistics.add(result)
    summary = statistics.summary()
    assert 0.5 <= summary["seconds"] < 2
    assert summary["fps"] == pytest.approx(10 / summary["seconds"], rel=0.01)


def test_statistics_of_nothing() -> None:
    summary = Statistics().summary()
    assert (summary["frames"], summary["fps"], summary["latency_ms"]) == (0, 0.0, {})
