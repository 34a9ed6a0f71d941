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


HEAPS = """
import ctypes, sys, threading
from rwkv_edge.memory import limit_arenas
if sys.argv[1] == "limited":
    limit_arenas()
together = threading.Barrier(12)
def work():
    blocks = [bytes(600) for _ in range(100)]
    together.wait()
threads = [threading.Thread(target=work) for _ in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
ctypes.CDLL(None).malloc_stats()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone has arenas")
def test_threads_share_two_heaps() -> None:
    heaps = {}
    for case in ("limited", "free"):
        command = [sys.executable, "-c", HEAPS, case]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        heaps[case] = done.stderr.count("Arena ")
    assert heaps["limited"] <= 2 < heaps["free"]
