"""Power, temperature and clocks while something runs, hence joules.

A meter reads them; `bench/meters.py` finds the one of this machine. Whatever cannot be read is
None, never 0.
"""

from __future__ import annotations

import itertools
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

INTERVAL = 0.1
"""Seconds between two readings; the sensors of a Jetson are not renewed faster."""


@dataclass(frozen=True)
class Reading:
    """One look at the sensors. None: not to be had."""

    watts: float | None = None
    joules: float | None = None
    """A counter from some start, where there is one."""
    temperature_c: float | None = None
    clock_mhz: float | None = None
    """Of the GPU."""
    device_memory_bytes: int | None = None


class Meter(ABC):
    """A source of readings."""

    name: str
    """What is read, in words."""
    measures: str
    """What the watts are of: 'module', 'graphics card', 'processor package'."""
    power_mode: str | None = None
    clocks_locked: bool | None = None
    """None: cannot be told."""

    @abstractmethod
    def read(self) -> Reading:
        """Read everything once."""

    def close(self) -> None:  # noqa: B027
        """Release what the meter holds."""


@dataclass(frozen=True)
class Usage:
    """What running something took. None: could not be measured."""

    seconds: float
    readings: int
    watts: float | None
    joules: float | None
    temperature_c: float | None
    """The highest."""
    clock_mhz: float | None
    """Mean of the GPU's clock."""
    device_memory_bytes: int | None
    """The most that was in use."""


class Sampler:
    """Reads a meter in a thread while the `with` block runs; then `usage` says what it took.

    Args:
        meter: what to read.
        interval: seconds between two readings.
    """

    usage: Usage

    def __init__(self, meter: Meter, interval: float = INTERVAL) -> None:
        self._meter, self._interval = meter, interval
        self._samples: list[tuple[float, Reading]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Sampler:
        self._take()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._take()
        self.usage = summarise_readings(self._samples)

    def _sample(self) -> None:
        while not self._stop.wait(self._interval):
            self._take()

    def _take(self) -> None:
        self._samples.append((time.monotonic(), self._meter.read()))


def summarise_readings(samples: Sequence[tuple[float, Reading]]) -> Usage:
    """Integrate (seconds, reading) pairs; a counter of joules is preferred to watts.

    Args:
        samples: at least two, in the order of time.
    """
    seconds = samples[-1][0] - samples[0][0]
    first, last = samples[0][1].joules, samples[-1][1].joules
    joules = None
    if first is not None and last is not None:
        joules = last - first
    else:
        known = [(at, reading.watts) for at, reading in samples if reading.watts is not None]
        if len(known) > 1:
            pairs = itertools.pairwise(known)
            area = sum((b - a) * (p + q) / 2 for (a, p), (b, q) in pairs)
            joules = area * seconds / (known[-1][0] - known[0][0])
    clocks = [r.clock_mhz for _, r in samples if r.clock_mhz is not None]
    return Usage(
        seconds,
        len(samples),
        None if joules is None else joules / seconds,
        joules,
        max((r.temperature_c for _, r in samples if r.temperature_c is not None), default=None),
        sum(clocks) / len(clocks) if clocks else None,
        max(
            (r.device_memory_bytes for _, r in samples if r.device_memory_bytes is not None),
            default=None,
        ),
    )


def read_number(path: Path) -> float | None:
    """Return the number in a file of sysfs; None as `read_file`."""
    text = read_file(path)
    try:
        return float(text) if text else None
    except ValueError:
        return None


def read_file(path: Path) -> str | None:
    """Return a file's text; None where it is missing, barred, or its sensor is switched off."""
    try:
        return path.read_text(errors="replace").strip("\0\n ")
    except OSError:
        return None
