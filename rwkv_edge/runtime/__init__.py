"""Running an exported model: ONNX Runtime, TensorRT, and Torch to compare. Never imports Torch.

`Runner` brings NumPy and OpenCV, so it is imported when it is asked for: what is told about GPU,
plugin and engines is told without them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rwkv_edge.runtime.base import ModelInfo, Runner

__all__ = ["ModelInfo", "Runner"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from rwkv_edge.runtime import base

    return getattr(base, name)
