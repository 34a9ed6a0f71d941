from __future__ import annotations

import re
from dataclasses import replace

from rwkv_edge.video.live import Signal
from rwkv_edge.web.metrics import Metrics
from tests.web.conftest import live_frame

_SAMPLE = re.compile(
    r'rwkv_edge_[a-z_]+(\{[a-z]+="(\\.|[^"\\])*"(,[a-z]+="(\\.|[^"\\])*")*\})? [-+0-9.e]+'
)


def test_every_line_is_prometheus_text() -> None:
    metrics = Metrics()
    frame = replace(live_frame(age=0.3), backend='odd "name"\\\n')
    metrics.observe(live_frame(valid=False), frame.captured)
    metrics.observe(frame, frame.captured + 0.3)
    metrics.observe(live_frame(Signal.NO_SIGNAL, result=False, age=-9), frame.captured)
    text = metrics.text(frame, Signal.LIVE, frame.captured + 1, viewers=4)
    assert text.endswith("\n")
    for line in text.splitlines():
        assert line.startswith("# ") or _SAMPLE.fullmatch(line), line
    for sample in (
        "rwkv_edge_frames_total 3",
        "rwkv_edge_dropped_frames_total 3",
        "rwkv_edge_invalid_results_total 1",
        'rwkv_edge_signal{state="LIVE"} 1',
        'rwkv_edge_signal{state="NO SIGNAL"} 0',
        'rwkv_edge_latency_seconds_bucket{le="0.02"} 0',
        'rwkv_edge_latency_seconds_bucket{le="0.035"} 2',
        'rwkv_edge_latency_seconds_bucket{le="+Inf"} 2',
        "rwkv_edge_latency_seconds_count 2",
        'rwkv_edge_age_seconds_bucket{le="0.2"} 1',
        "rwkv_edge_picture_age_seconds 1.000",
        "rwkv_edge_viewers 4",
        "rwkv_edge_findings 1",
    ):
        assert sample in text.splitlines(), sample


def test_before_the_first_frame() -> None:
    text = Metrics().text(None, Signal.NO_SIGNAL, 0, viewers=0)
    assert 'rwkv_edge_signal{state="NO SIGNAL"} 1' in text
    assert "picture_age" not in text
