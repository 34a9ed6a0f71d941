"""How everything here is timed: alternating in one process, medians with spread, machine named.

The words are those of trtexec and MLPerf: warm-up calls that do not count, then a least count or
duration, then percentiles. Candidates take turns, so that drift of a shared machine hits all alike;
a confidence interval draws blocks of neighbouring calls, which are alike too.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

NOISY_CV = 2.5
"""Coefficient of variation in percent above which a latency is called unsteady."""
_RESAMPLES, _CONFIDENCE = 1000, 0.95
_SAMPLES_FOR_P99 = 100


def alternate(
    candidates: Mapping[str, Callable[[], object]],
    rounds: int,
    warm_up: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time every candidate once a round, so that drift of a shared machine hits all alike.

    Args:
        candidates: calls by name.
        rounds: that count.
        warm_up: calls of each before that.
        clock: seconds; `time.process_time` leaves out what others do with the processor.

    Returns:
        Seconds of each call by candidate.
    """
    for run in candidates.values():
        for _ in range(warm_up):
            run()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            started = clock()
            run()
            times[name].append(clock() - started)
    return times


def count_rounds(
    frames: int,
    seconds: float,
    candidates: int,
    least: int = 10,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[int]:
    """Yield the numbers of the rounds: `frames` of them, or fewer when time is up.

    Args:
        frames: rounds to do.
        seconds: for one candidate; all of them together may take `candidates` times as long.
        candidates: that take turns in a round.
        least: rounds whatever they take, so that there is something to sum up.
        clock: seconds, for tests.
    """
    end = clock() + seconds * candidates
    for number in range(frames):
        if number >= least and clock() >= end:
            return
        yield number


def summarise(times: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    """Milliseconds: median, p10, p90, p99, mean, maximum; coefficient of variation in percent.

    With fewer than a hundred calls p99 is the maximum.
    """
    table = {}
    for name, seconds in times.items():
        values = np.asarray(seconds) * 1e3
        p10, p50, p90, p99 = np.percentile(values, (10, 50, 90, 99))
        mean, largest = float(values.mean()), float(values.max())
        table[name] = {
            "p50_ms": float(p50),
            "p10_ms": float(p10),
            "p90_ms": float(p90),
            "p99_ms": float(p99) if len(values) >= _SAMPLES_FOR_P99 else largest,
            "mean_ms": mean,
            "max_ms": largest,
            "cv_percent": 100 * float(values.std()) / mean if mean else 0.0,
        }
    return table


def ratio(times: Mapping[str, Sequence[float]], of: str, to: str) -> tuple[float, float, float]:
    """Median of the rounds' ratios, with the tenth and ninetieth percentile."""
    ratios = [a / b for a, b in zip(times[of], times[to], strict=True)]
    tenths = statistics.quantiles(ratios, n=10)
    return statistics.median(ratios), tenths[0], tenths[-1]


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"

    @property
    def differs(self) -> bool:
        """Whether 1 lies outside: the two are not equally fast."""
        return not self.low <= 1 <= self.high


def ratio_interval(
    of: Sequence[float], to: Sequence[float], *, paired: bool, seed: int = 0
) -> Interval:
    """Return the ratio of two medians with a bootstrap confidence interval.

    Blocks of n^(1/3) neighbouring calls are drawn instead of single ones: calls that follow each
    other share the machine's mood, and single draws would make the interval too narrow.

    Args:
        of: seconds of each call, or any other unit that both have.
        to: the calls to compare with.
        paired: whether call i of both was taken in the same round, so that both are drawn alike.
        seed: of the draws.
    """
    a, b = np.asarray(of, float), np.asarray(to, float)
    rng = np.random.default_rng(seed)
    ratios = np.empty(_RESAMPLES)
    for index in range(_RESAMPLES):
        drawn = _draw_blocks(rng, len(a))
        other = drawn if paired else _draw_blocks(rng, len(b))
        ratios[index] = np.median(a[drawn]) / np.median(b[other])
    tail = 50 * (1 - _CONFIDENCE)
    low, high = np.percentile(ratios, (tail, 100 - tail))
    return Interval(float(np.median(a) / np.median(b)), float(low), float(high))


def _draw_blocks(rng: np.random.Generator, count: int) -> np.ndarray:
    length = max(1, round(count ** (1 / 3)))
    starts = rng.integers(count, size=-(-count // length))
    drawn: np.ndarray = ((starts[:, None] + np.arange(length)) % count).ravel()[:count]
    return drawn


def describe_machine(*packages: str) -> dict[str, str]:
    """Processor, Python, versions of `packages`, and the commit where this is a checkout."""
    processor = platform.processor() or platform.machine() or "unknown"
    try:
        with open("/proc/cpuinfo") as file:
            processor = next(line.split(":")[1].strip() for line in file if "model name" in line)
    except (OSError, StopIteration):
        pass
    try:  # a Jetson says here what it is
        board = Path("/proc/device-tree/model").read_text().strip("\0\n")
    except OSError:
        board = ""
    return {
        **({"board": board} if board else {}),
        "processor": f"{processor}, {len(os.sched_getaffinity(0))} cores",
        "python": platform.python_version(),
        **{name: _version(name) for name in packages},
        "commit": _commit(),
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # onnxruntime-gpu in onnxruntime's place
        return "unknown"


def _commit() -> str:
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # installed: the commit of whatever is around says nothing
        return "unknown"
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def print_table(table: Mapping[str, Mapping[str, float]]) -> None:
    """One line a candidate."""
    for name, row in table.items():
        print(f"{name:34}", "  ".join(f"{key} {value:8.2f}" for key, value in row.items()))
