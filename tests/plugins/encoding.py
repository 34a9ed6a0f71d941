"""The kernels' number types as NumPy holds them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

INVALID_VALUE = 1  # cudaErrorInvalidValue
TYPES = {"float32": 0, "float16": 1, "bfloat16": 2}
UNIT = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}


def encode(x: npt.NDArray[Any], dtype: str) -> npt.NDArray[Any]:
    """As the kernel reads it; bfloat16, unknown to NumPy, as its 16 bits (rounded to even)."""
    if dtype != "bfloat16":
        return np.ascontiguousarray(x, dtype)
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def decode(x: npt.NDArray[Any], dtype: str) -> npt.NDArray[np.float32]:
    """To float32."""
    if dtype != "bfloat16":
        return x.astype(np.float32)
    return (x.astype(np.uint32) << 16).view(np.float32)
