"""The machine below: versions, heat, memory, disk and the right to write."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rwkv_edge import __version__
from rwkv_edge.doctor.finding import Finding, Status
from rwkv_edge.doctor.jetson import read

_GIB = 1 << 30
_LEAST_MEMORY = _GIB
"""Bytes; segmenting full-HD pictures took 0.4 GiB, building an engine 0.45 and CUDA's own share."""
_LEAST_DISK = _GIB
"""Bytes; an engine takes 20 MB, a long overlay video many times that."""
_MARGIN_C = 5.0
"""Degrees below a zone's first limit from which throttling is near."""


def versions() -> Iterator[Finding]:
    """Say what runs: rwkv-edge and Python."""
    yield Finding("rwkv-edge", "ok", f"{__version__} in {Path(__file__).parents[1]}")
    yield Finding("Python", "ok", f"{platform.python_version()}, {sys.executable}")


def machine(root: Path) -> Iterator[Finding]:
    """Say what it is: board or processor architecture, cores, operating system."""
    model = read(root / "proc/device-tree/model") or platform.machine()
    cores = len(os.sched_getaffinity(0))
    yield Finding("Machine", "ok", f"{model}, {cores} {'core' if cores == 1 else 'cores'} for us")
    name = re.search(r'^PRETTY_NAME="?([^"\n]+)', read(root / "etc/os-release"), re.MULTILINE)
    system = name[1] if name else platform.system()
    yield Finding("System", "ok", f"{system}, kernel {platform.release()}")


def temperature(root: Path) -> Iterator[Finding]:
    """Compare every sensor with the first limit at which the kernel acts."""
    hottest: tuple[float, str] | None = None
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        degrees = _degrees(zone / "temp")
        if degrees is None:  # Jetsons have zones that answer only while their unit is awake
            continue
        name = read(zone / "type") or zone.name
        hottest = max(hottest or (degrees, name), (degrees, name))
        limit = _limit(zone)
        if limit is not None and degrees > limit - _MARGIN_C:
            reason = f"{name} is at {degrees:.0f} degrees, it is slowed down from {limit:.0f}"
            mend = "let it cool, give it a fan, or choose a lower power mode"
            yield Finding("Temperature", "warning", reason, mend)
            return
    if hottest is None:
        yield Finding("Temperature", "ok", "no sensor can be read here")
    else:
        yield Finding("Temperature", "ok", f"{hottest[0]:.0f} degrees at most ({hottest[1]})")


def memory(root: Path) -> Iterator[Finding]:
    """Look at what is free for a new program."""
    text = read(root / "proc/meminfo")
    values = {k: int(v) * 1024 for k, v in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
    free, total = values["MemAvailable"], values["MemTotal"]
    reason = f"{free / _GIB:.1f} of {total / _GIB:.1f} GiB free"
    if free < _LEAST_MEMORY:
        mend = "close other programs or add swap; building an engine needs the most"
        yield Finding("Memory", "warning", reason, mend)
    else:
        yield Finding("Memory", "ok", reason)


def disk(cache: Path, here: Path) -> Iterator[Finding]:
    """Look at the two folders that are written: the cache, and where the user stands."""
    mend = "set XDG_CACHE_HOME to a folder that you may write"
    yield _folder("Cache", cache, "problem", mend)
    mend = "go to a folder that you may write, or name one with --output"
    yield _folder("Working folder", here, "warning", mend)


def _folder(name: str, folder: Path, otherwise: Status, mend: str) -> Finding:
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(bytes(4096))  # a full disk still lets files be made
    except OSError as error:
        reason = f"{folder} cannot be written: {error.strerror or error}"
        return Finding(name, otherwise, reason, mend)
    free = shutil.disk_usage(existing).free
    reason = f"{folder} can be written, {free / _GIB:.1f} GiB free"
    if free < _LEAST_DISK:
        return Finding(name, "warning", reason, "free some space: engines and videos are large")
    return Finding(name, "ok", reason)


def _limit(zone: Path) -> float | None:
    """Return the first limit that slows down or switches off; one that starts a fan is none."""
    limits = [
        _degrees(kind.with_name(kind.name.replace("_type", "_temp")))
        for kind in zone.glob("trip_point_*_type")
        if read(kind) in ("passive", "hot", "critical")
    ]
    return min((limit for limit in limits if limit is not None and limit > 0), default=None)


def _degrees(path: Path) -> float | None:
    """Return what the kernel gives in thousandths of a degree Celsius."""
    text = read(path)
    return int(text) / 1000 if re.fullmatch(r"-?\d+", text) else None
