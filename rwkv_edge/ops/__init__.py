"""bi-WKV, a Torch op with gradients, ShiftMix, one for inference, and the exact references."""

from rwkv_edge.ops import extension  # gives the op its CUDA form
from rwkv_edge.ops.bi_wkv import bi_wkv
from rwkv_edge.ops.reference import bi_wkv_ref, shift_mix_ref
from rwkv_edge.ops.shift_mix import shift_mix, shift_mix_weight

__all__ = [
    "bi_wkv",
    "bi_wkv_ref",
    "extension",
    "shift_mix",
    "shift_mix_ref",
    "shift_mix_weight",
]
