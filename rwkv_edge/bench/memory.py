"""Memory of this process, as Linux counts it.

Not `ru_maxrss`: a child inherits that of the parent which started it.
"""

from __future__ import annotations

import re
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident_bytes() -> int | None:
    """Return what is in memory now; None where Linux does not say."""
    return _field("VmRSS")


def peak_bytes() -> int | None:
    """Return the most that was in memory since the start, or since `reset_peak`."""
    return _field("VmHWM")


def reset_peak() -> bool:
    """Begin to look for the peak anew; return whether the kernel allows that."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def _field(name: str) -> int | None:
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    except OSError:
        return None
    return 1024 * int(found.group(1)) if found else None
