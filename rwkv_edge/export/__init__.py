"""From a checkpoint to one ONNX file that runs everywhere, and that file in lower precision.

`export_onnx` needs Torch; lowering the precision of what it wrote does not, so that a Jetson can.
Hence nothing is imported here until it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rwkv_edge.export.check import largest_error
    from rwkv_edge.export.onnx import ExportReport, export_onnx

__all__ = ["ExportReport", "export_onnx", "largest_error"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from rwkv_edge.export import check, onnx

    return getattr(check if name == "largest_error" else onnx, name)
