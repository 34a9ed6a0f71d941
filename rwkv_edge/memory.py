"""Memory of this process and of the machine as Linux counts it, and what the C library keeps.

Not `ru_maxrss`: a child inherits that of the parent which started it.
"""

from __future__ import annotations

import ctypes
import re
import sys
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_MACHINE = Path("/proc/meminfo")
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8  # of glibc's malloc.h
_LIMIT, _USED = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))


def resident_bytes() -> int | None:
    """Return what is in memory now; None where Linux does not say."""
    return _field(_STATUS, "VmRSS")


def peak_bytes() -> int | None:
    """Return the most that was in memory since the start, or since `reset_peak`."""
    return _field(_STATUS, "VmHWM")


def available_bytes() -> int | None:
    """Return what programs may still take, a container's own limit included; None if unknown."""
    free = _field(_MACHINE, "MemAvailable")
    try:
        left = int(_LIMIT.read_text()) - int(_USED.read_text())
    except (OSError, ValueError):  # no such limit, or the word 'max'
        return free
    return left if free is None else min(free, left)


def reset_peak() -> bool:
    """Begin to look for the peak anew; return whether the kernel allows that."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def keep_freed_memory() -> None:
    """Stop glibc from returning every large tensor to the kernel and zeroing it anew.

    On a CPU the page faults of freshly mapped activations cost a tenth of a training step or more
    (see benchmarks/README.md). Does nothing outside Linux with glibc.
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_M_TOP_PAD, 64 << 20)


def limit_arenas(count: int = 2) -> None:
    """Let glibc's threads share so many heaps; call it before threads start.

    By default each new thread may get a heap of its own, eight a core. Where threads come and go,
    as a decoder's do with every connection, what is in memory then grows for hours though nothing
    is held. Does nothing outside Linux with glibc.
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_M_ARENA_MAX, count)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") else None


def _field(file: Path, name: str) -> int | None:
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", file.read_text(), re.MULTILINE)
    except OSError:
        return None
    return 1024 * int(found.group(1)) if found else None
