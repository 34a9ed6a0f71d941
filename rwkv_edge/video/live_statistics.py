"""What hours of streaming looked like, in a fixed amount of memory."""

from __future__ import annotations

import math
from typing import Any

from rwkv_edge.video.result import Result
from rwkv_edge.video.segmenting import STAGES

PERCENTILES = (50, 90, 99)
_LOWEST_MS, _HIGHEST_MS = 0.01, 1e5
_STEP = 1.01  # ratio of two bins: percentiles are right to one in a hundred


class Histogram:
    """Counts durations in bins of one per cent; a list of them would grow with the hours."""

    def __init__(self) -> None:
        self._bins = [0] * (self._index(_HIGHEST_MS) + 1)
        self.count = 0

    def add(self, milliseconds: float) -> None:
        """Count one."""
        self._bins[self._index(min(max(milliseconds, _LOWEST_MS), _HIGHEST_MS))] += 1
        self.count += 1

    def percentile(self, rank: float) -> float:
        """Return the duration in ms that `rank` of 100 do not exceed; 0 for none at all."""
        wanted, seen = rank / 100 * self.count, 0
        for index, number in enumerate(self._bins):
            seen += number
            if number and seen >= wanted:
                return _LOWEST_MS * _STEP**index
        return 0.0

    def as_dict(self) -> dict[str, float]:
        """Return p50, p90 and p99 in ms."""
        return {f"p{rank}": round(self.percentile(rank), 2) for rank in PERCENTILES}

    @staticmethod
    def _index(milliseconds: float) -> int:
        return round(math.log(milliseconds / _LOWEST_MS) / math.log(_STEP))


class LiveStatistics:
    """Counts what was shown."""

    def __init__(self) -> None:
        self.results = 0
        self.shown = 0
        self.with_finding = 0
        self.invalid = 0
        self.without_mask = 0
        """Pictures shown without their mask, because it was too old or there was none."""
        self.age = Histogram()
        """From capture to display, of pictures with their mask."""
        self._stages = {stage: Histogram() for stage in STAGES}

    def add_result(self, result: Result) -> None:
        """Count what the inference delivered, whether it is in time or not."""
        self.results += 1
        self.with_finding += bool(result.components)
        self.invalid += not result.valid
        for stage in ("preprocess", "inference", "postprocess"):
            self._stages[stage].add(result.latency_ms[stage])

    def add_shown(self, result: Result, age_s: float) -> None:
        """Count a picture that was shown with its mask."""
        self.shown += 1
        self.age.add(age_s * 1e3)
        for stage in ("draw", "write"):
            self._stages[stage].add(result.latency_ms[stage])

    def summary(self) -> dict[str, Any]:
        """Return the figures."""
        return {
            "results": self.results,
            "results_with_finding": self.with_finding,
            "invalid_results": self.invalid,
            "masks_shown": self.shown,
            "pictures_without_mask": self.without_mask,
            "age_at_display_ms": self.age.as_dict(),
            "latency_ms": {
                stage: values.as_dict() for stage, values in self._stages.items() if values.count
            },
        }
