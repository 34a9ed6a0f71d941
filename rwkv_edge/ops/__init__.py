"""bi-WKV: the exact reference, and the Torch op with gradients."""

from rwkv_edge.ops import extension  # gives the op its CUDA form
from rwkv_edge.ops.bi_wkv import bi_wkv
from rwkv_edge.ops.reference import bi_wkv_ref

__all__ = ["bi_wkv", "bi_wkv_ref", "extension"]
