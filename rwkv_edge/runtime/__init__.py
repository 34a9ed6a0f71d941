"""Running an exported model: ONNX Runtime, TensorRT, and Torch to compare. Never imports Torch."""

from rwkv_edge.runtime.base import ModelInfo, Runner

__all__ = ["ModelInfo", "Runner"]
