from __future__ import annotations

import numpy as np
import pytest

from rwkv_edge.bench.memory import peak_bytes, reset_peak, resident_bytes

SIZE = 64 << 20


def test_the_peak_remembers_what_is_gone() -> None:
    if not reset_peak():
        pytest.skip("this kernel does not let the peak be reset")
    before = resident_bytes()
    array = np.ones(SIZE, np.uint8)
    held = resident_bytes()
    del array
    peak, after = peak_bytes(), resident_bytes()
    assert None not in (before, held, peak, after)
    assert peak - before > 0.9 * SIZE  # type: ignore[operator]
    assert held - after > 0.9 * SIZE  # type: ignore[operator]
    assert reset_peak()
    assert peak_bytes() < peak - 0.9 * SIZE  # type: ignore[operator]
