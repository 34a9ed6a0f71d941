"""RWKV-UNet and the U-Net baseline, their weights, and a block for networks of others."""

from rwkv_edge.models.checkpoint import (
    CheckpointInfo,
    load_checkpoint,
    load_model,
    save_checkpoint,
)
from rwkv_edge.models.create import create_model
from rwkv_edge.models.fold import fold
from rwkv_edge.models.rwkv_block import RWKVBlock
from rwkv_edge.models.segmenter import Segmenter, to_probability

__all__ = [
    "CheckpointInfo",
    "RWKVBlock",
    "Segmenter",
    "create_model",
    "fold",
    "load_checkpoint",
    "load_model",
    "save_checkpoint",
    "to_probability",
]
