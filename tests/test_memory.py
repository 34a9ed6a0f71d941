from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rwkv_edge import memory

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


def test_a_container_has_no_more_than_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"_MACHINE": "MemAvailable: 9000 kB\n", "_LIMIT": "6000", "_USED": "1000"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(memory, name, tmp_path / name)
    assert memory.available_bytes() == 5000
    (tmp_path / "_LIMIT").write_text("max\n")
    assert memory.available_bytes() == 9000 * 1024
    (tmp_path / "_MACHINE").unlink()
    assert memory.available_bytes() is None


KEPT = """
from rwkv_edge.memory import keep_freed_memory, resident_bytes, return_freed_memory
keep_freed_memory()
blocks = [bytes(50_000) for _ in range(800)]  # below the size that malloc maps by itself
held = resident_bytes()
blocks = blocks[::100]  # some stay, scattered
kept = resident_bytes()
return_freed_memory()
left = resident_bytes()
assert held - kept < 4e6, (held, kept)
assert kept - left > 30e6, (kept, left)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone keeps and returns")
def test_what_is_freed_is_kept_until_it_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", KEPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
