from __future__ import annotations

import time
from typing import Any

import pytest

from rwkv_edge.bench.stages import TOTAL, Candidate, measure


def test_candidates_see_the_same_frames_in_turn() -> None:
    seen: list[tuple[str, Any]] = []
    number = iter(range(100))

    def candidate(name: str) -> Candidate:
        def look(value: Any) -> Any:
            seen.append((name, value))
            return value

        return Candidate(name, [("preprocess", look), ("inference", lambda value: value)])

    samples = measure(
        [candidate("a"), candidate("b")], lambda: (next(number), 0.002), range(2), warm_up=1
    )
    assert seen == [(name, frame) for frame in range(3) for name in "ab"]
    for values in samples.values():
        assert list(values) == ["capture", "preprocess", "inference", TOTAL]
        assert values["capture"] == pytest.approx([2.0, 2.0])
        parts = zip(values["capture"], values["preprocess"], values["inference"], strict=True)
        assert values[TOTAL] == pytest.approx([sum(part) for part in parts])


def test_copies_are_told_apart_where_the_runtime_does() -> None:
    copies = {"host-to-device": 0.25, "device-to-host": 0.5}
    plain = Candidate("plain", [("inference", lambda value: value)])
    split = Candidate("split", [("inference", lambda value: time.sleep(0.002))], lambda: copies)
    samples = measure([plain, split], lambda: (0, 0.0), range(3), warm_up=0)
    assert "host-to-device" not in samples["plain"]
    assert samples["split"]["host-to-device"] == [0.25] * 3
    *parts, total = samples["split"].values()  # the call's time is shared out, not added to
    assert [sum(values) for values in zip(*parts, strict=True)] == pytest.approx(total, abs=1e-9)
    assert min(samples["split"]["inference"]) >= 2 - 0.75
