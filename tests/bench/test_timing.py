from __future__ import annotations

import itertools

import numpy as np
import pytest

from rwkv_edge.bench.timing import (
    alternate,
    count_rounds,
    describe_machine,
    ratio,
    ratio_interval,
    summarise,
)


def test_candidates_take_turns_after_their_warm_up() -> None:
    calls: list[str] = []
    times = alternate(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3, warm_up=2
    )
    assert "".join(calls) == "aabb" + "ababab"
    assert {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3}


def test_rounds_end_by_count_or_by_time_but_not_before_the_least() -> None:
    def ticking() -> float:
        return next(seconds)

    seconds = itertools.count(0.0, 1.0)
    assert len(list(count_rounds(5, 100.0, 1, least=2, clock=ticking))) == 5
    seconds = itertools.count(0.0, 1.0)
    assert len(list(count_rounds(1000, 10.0, 2, least=2, clock=ticking))) == 2 + 19
    seconds = itertools.count(0.0, 100.0)
    assert len(list(count_rounds(1000, 10.0, 2, least=7, clock=ticking))) == 7


def test_summary() -> None:
    (row,) = summarise({"x": np.arange(1, 1002) / 1e3}).values()
    assert row["p50_ms"] == pytest.approx(501)
    assert row["p10_ms"] == pytest.approx(101)
    assert row["p99_ms"] == pytest.approx(991)
    assert (row["mean_ms"], row["max_ms"]) == pytest.approx((501, 1001))
    assert row["cv_percent"] == pytest.approx(100 * 288.96 / 501, rel=1e-3)
    assert summarise({"x": [1.0, 2.0, 9.0]})["x"]["p99_ms"] == 9000  # too few for a p99


def test_ratio_of_rounds() -> None:
    middle, low, high = ratio({"a": [1, 2, 3, 4], "b": [2, 4, 6, 8]}, "a", "b")
    assert (middle, low, high) == (0.5, 0.5, 0.5)


def test_the_interval_holds_the_truth_and_narrows() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for count in (50, 800):
        a, b = rng.lognormal(0.0, 0.1, count), 2 * rng.lognormal(0.0, 0.1, count)
        interval = ratio_interval(a, b, paired=False)
        assert interval.low < 0.5 < interval.high
        assert interval.differs
        assert ratio_interval(a, b, paired=False) == interval  # seeded
        widths.append(interval.high - interval.low)
    assert widths[1] < widths[0] / 2
    same = rng.lognormal(0.0, 0.1, (2, 200))
    assert not ratio_interval(*same, paired=False).differs


def test_rounds_that_share_their_noise_are_drawn_together() -> None:
    mood = np.random.default_rng(1).lognormal(0.0, 0.5, 300)
    paired = ratio_interval(1.01 * mood, mood, paired=True)
    loose = ratio_interval(1.01 * mood, mood, paired=False)
    assert paired.high - paired.low < 1e-6 < loose.high - loose.low
    assert paired.differs
    assert not loose.differs


def test_noise_that_lasts_widens_the_interval() -> None:
    rng = np.random.default_rng(2)
    steps = np.repeat(rng.lognormal(0.0, 0.2, 100), 7)
    mixed = rng.permutation(steps)
    reference = np.ones(700)
    lasting = ratio_interval(steps, reference, paired=False)
    quick = ratio_interval(mixed, reference, paired=False)
    assert lasting.high - lasting.low > 1.5 * (quick.high - quick.low)


def test_the_machine_is_named() -> None:
    machine = describe_machine("numpy")
    assert machine["numpy"] == np.__version__
    assert "cores" in machine["processor"]
    assert machine["commit"]
