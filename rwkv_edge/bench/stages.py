"""Timing whole frames by stage, candidates taking turns on the same frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

STAGES = (
    "capture",
    "preprocess",
    "host-to-device",
    "inference",
    "device-to-host",
    "postprocess",
    "draw",
)
TOTAL = "total"
Samples = dict[str, list[float]]
"""Milliseconds of every call by stage, `TOTAL` included; a stage that a backend does not tell apart
is not there."""


def _nothing() -> Mapping[str, float]:
    return {}


@dataclass(frozen=True)
class Candidate:
    """Something that handles frames, in steps."""

    label: str
    steps: Sequence[tuple[str, Callable[[Any], Any]]]
    """Stage and function; each gets what the one before returned, the first what was captured."""
    parts: Callable[[], Mapping[str, float]] = _nothing
    """Milliseconds of the stages inside the last `inference`, where the runtime tells them."""

    def run(self, captured: Any) -> dict[str, float]:
        """Handle what was captured; return milliseconds by stage."""
        spent: dict[str, float] = {}
        value = captured
        for stage, step in self.steps:
            start = time.perf_counter()
            value = step(value)
            spent[stage] = (time.perf_counter() - start) * 1e3
        parts = self.parts()
        if parts:
            spent["inference"] -= sum(ms for stage, ms in parts.items() if stage != "inference")
            spent |= {stage: ms for stage, ms in parts.items() if stage != "inference"}
        return spent


def measure(
    candidates: Sequence[Candidate],
    capture: Callable[[], tuple[Any, float]],
    rounds: Iterable[int],
    warm_up: int,
) -> dict[str, Samples]:
    """Let every candidate handle the same capture, round by round.

    Args:
        candidates: with labels that differ.
        capture: returns what the candidates handle and the seconds it took to get.
        rounds: one element a round; asked for after the warm-up.
        warm_up: rounds that do not count.

    Returns:
        Samples by label.
    """
    for _ in range(warm_up):
        captured, _ = capture()
        for candidate in candidates:
            candidate.run(captured)
    samples: dict[str, Samples] = {candidate.label: {} for candidate in candidates}
    for _ in rounds:
        captured, seconds = capture()
        for candidate in candidates:
            spent = {"capture": seconds * 1e3, **candidate.run(captured)}
            for stage in STAGES:
                if stage in spent:
                    samples[candidate.label].setdefault(stage, []).append(spent[stage])
            samples[candidate.label].setdefault(TOTAL, []).append(sum(spent.values()))
    return samples
