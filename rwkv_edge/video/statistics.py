"""What a whole run looked like: latency percentiles by stage, frame rate, findings."""

from __future__ import annotations

import time
from array import array
from typing import Any

import numpy as np

from rwkv_edge.video.result import Result
from rwkv_edge.video.segmenting import STAGES

PERCENTILES = (50, 90, 99)


class Statistics:
    """Collects results; holds seven floats a frame, 50 MB for eight hours at 30 frames a second."""

    def __init__(self) -> None:
        self.frames = 0
        self.frames_with_finding = 0
        self.invalid_frames = 0
        self._latency = {stage: array("d") for stage in (*STAGES, "total")}
        self._start = self._end = 0.0

    def add(self, result: Result) -> None:
        """Count one frame; call it as soon as the result is there."""
        self._end = time.perf_counter()
        if not self.frames:
            self._start = self._end - result.total_ms / 1e3
        self.frames += 1
        self.frames_with_finding += bool(result.components)
        self.invalid_frames += not result.valid
        for stage, value in result.latency_ms.items():
            self._latency[stage].append(value)
        self._latency["total"].append(result.total_ms)

    def summary(self) -> dict[str, Any]:
        """Return counts, the rate over the wall clock, and p50, p90, p99 in ms by stage and total.

        The time runs from the first frame's capture to the last result: loading and warm-up do
        not count, but whatever happens between two frames does.
        """
        seconds = self._end - self._start
        return {
            "frames": self.frames,
            "frames_with_finding": self.frames_with_finding,
            "invalid_frames": self.invalid_frames,
            "seconds": round(seconds, 3),
            "fps": round(self.frames / seconds, 2) if seconds > 0 else 0.0,
            "latency_ms": {
                stage: _percentiles(values) for stage, values in self._latency.items() if values
            },
        }


def _percentiles(values: array[float]) -> dict[str, float]:
    found = np.percentile(np.frombuffer(values), PERCENTILES)
    return {
        f"p{rank}": round(float(value), 3) for rank, value in zip(PERCENTILES, found, strict=True)
    }
