"""Running an exported model: ONNX Runtime, and Torch for comparison. Never imports Torch itself."""

from rwkv_edge.runtime.base import ModelInfo, Runner

__all__ = ["ModelInfo", "Runner"]
