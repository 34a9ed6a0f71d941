"""From the name of a variant to a network."""

from __future__ import annotations

from torch import nn

from rwkv_edge.config import SIZES, RWKVUNetSize
from rwkv_edge.errors import UsageError
from rwkv_edge.models.rwkv_unet import RWKVUNet
from rwkv_edge.models.unet import UNet


def create_model(variant: str, num_classes: int = 1, in_channels: int = 3) -> nn.Module:
    """Build a network with fresh weights.

    Args:
        variant: 'tiny', 'small', 'base' (RWKV-UNet) or 'unet' (the baseline).
        num_classes: planes of logits; 1 for a binary mask, else the background counts as one.
        in_channels: planes of the image.

    Returns:
        A module from (B, in_channels, H, W) to (B, num_classes, H, W) logits for any H and W that
        are multiples of 16.

    Raises:
        UsageError: no such variant, or a count below 1.
    """
    size = SIZES.get(variant)
    if size is None:
        raise UsageError(f"no variant '{variant}'; choose one of {', '.join(SIZES)}")
    if num_classes < 1 or in_channels < 1:
        raise UsageError("num_classes and in_channels must be at least 1")
    if isinstance(size, RWKVUNetSize):
        return RWKVUNet(size, num_classes, in_channels)
    return UNet(size, num_classes, in_channels)
