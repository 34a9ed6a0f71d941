"""How the scripts of this folder time: alternating, medians with spread, machine named."""

from __future__ import annotations

import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping


def alternate(
    candidates: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 3
) -> dict[str, list[float]]:
    """Time every candidate once a round, so that drift of a shared machine hits all alike.

    Returns:
        Seconds of each call by candidate.
    """
    for run in candidates.values():
        for _ in range(warm_up):
            run()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            started = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - started)
    return times


def summarise(times: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    """Milliseconds: median, tenth and ninetieth percentile."""
    table = {}
    for name, seconds in times.items():
        tenths = statistics.quantiles(seconds, n=10)
        table[name] = {
            "p50_ms": statistics.median(seconds) * 1e3,
            "p10_ms": tenths[0] * 1e3,
            "p90_ms": tenths[-1] * 1e3,
        }
    return table


def ratio(times: Mapping[str, list[float]], of: str, to: str) -> tuple[float, float, float]:
    """Median of the rounds' ratios, with the tenth and ninetieth percentile."""
    ratios = [a / b for a, b in zip(times[of], times[to], strict=True)]
    tenths = statistics.quantiles(ratios, n=10)
    return statistics.median(ratios), tenths[0], tenths[-1]


def describe_machine(*packages: str) -> dict[str, str]:
    """Processor, Python, versions of `packages`, and the commit."""
    import importlib.metadata
    import os

    processor = platform.processor() or "unknown"
    try:
        with open("/proc/cpuinfo") as file:
            processor = next(line.split(":")[1].strip() for line in file if "model name" in line)
    except (OSError, StopIteration):
        pass
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return {
        "processor": f"{processor}, {len(os.sched_getaffinity(0))} cores",
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
        "commit": commit.stdout.strip() or "unknown",
    }


def print_table(table: Mapping[str, Mapping[str, float]]) -> None:
    """One line a candidate."""
    for name, row in table.items():
        print(f"{name:34}", "  ".join(f"{key} {value:8.2f}" for key, value in row.items()))
