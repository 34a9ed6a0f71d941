"""The soak's judgement, on records of which the answer is known; the soak itself: `make soak`."""

from __future__ import annotations

import numpy as np
import pytest

from tests.faults.soak import Record, judge, slope


def record(
    mb_an_hour: float = 0.0, handles: float = 0.0, threads: float = 0.0, slower: float = 0.0
) -> Record:
    rng = np.random.default_rng(0)
    times = np.arange(0, 1200, 2.0)
    share = times / times[-1]
    ages = rng.gamma(9, 3, 30_000)
    moments = np.linspace(0, 1200, len(ages))
    return Record(
        list(times),
        list(200 + mb_an_hour * times / 3600 + rng.normal(0, 0.02, len(times))),
        list((20 + handles * share).astype(int)),
        list((9 + threads * share).astype(int)),
        list(zip(moments, ages * (1 + slower * moments / 1200), strict=True)),
    )


def test_what_is_flat_passes() -> None:
    said, failed = judge(record())
    assert len(said) == 4
    assert failed == []


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"mb_an_hour": 3.0}, "memory"),
        ({"handles": 3.0}, "handles"),
        ({"threads": 2.0}, "threads"),
        ({"slower": 0.3}, "age"),
    ],
)
def test_what_grows_fails(fault: dict[str, float], words: str) -> None:
    _, (line,) = judge(record(**fault))
    assert line.startswith(words)


def test_the_slope_lies_in_its_interval() -> None:
    leaking = record(mb_an_hour=3.0)
    an_hour, low, high = slope(leaking.times, leaking.megabytes)
    assert low < 3.0 < high
    assert an_hour == pytest.approx(3.0, abs=0.2)
