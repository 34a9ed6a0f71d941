"""What our operators are called, in ONNX files and, under the same names, as TensorRT plugins."""

from __future__ import annotations

DOMAIN = "rwkv_edge"
"""The domain of the ONNX operators and the namespace of the plugins."""
VERSION = "1"
"""Of the plugins."""
BI_WKV = "BiWKV"
SHIFT_MIXES = {2: "ShiftMix2", 3: "ShiftMix3"}
"""By the number of mixes."""
NAMES = (BI_WKV, *SHIFT_MIXES.values())
