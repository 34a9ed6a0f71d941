from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import numpy as np
from rwkv_edge.memory import peak_bytes, reset_peak, resident_bytes

size = 64 << 20
if not reset_peak():
    raise SystemExit("no reset")
before = resident_bytes()
array = np.ones(size, np.uint8)
held = resident_bytes()
del array
peak, after = peak_bytes(), resident_bytes()
assert None not in (before, held, peak, after)
assert peak - before > 0.9 * size
assert held - after > 0.9 * size
assert reset_peak()
assert peak_bytes() < peak - 0.9 * size
"""


def test_the_peak_remembers_what_is_gone() -> None:
    """In a process of its own: training tells the allocator to keep what is freed."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    if "no reset" in done.stderr:
        pytest.skip("this kernel does not let the peak be reset")
    assert done.returncode == 0, done.stderr
