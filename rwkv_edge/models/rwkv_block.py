"""RWKV's two mixers as a block for anybody's network: feature map in, feature map out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rwkv_edge.errors import UsageError
from rwkv_edge.models.blocks import ChannelNorm, DropPath, SpatialMix, to_map
from rwkv_edge.models.ccm import ChannelMix

LEAST_CHANNELS = 4
"""Below that q-shift has no quarter to shift."""


class RWKVBlock(nn.Module):
    """Mix all pixels by bi-WKV, then the channels of each pixel: (B, C, H, W) to the same.

    Put it where a network sees the most of the picture with the fewest pixels, as a bottleneck: its
    cost grows linearly with H W. Any H and W go, in training and afterwards. Each half is
    x + scale * mix(norm(x)), with a scale of its own for every channel that starts small: added to
    a trained network, it changes next to nothing at first.

        network.bottleneck = nn.Sequential(network.bottleneck, RWKVBlock(512))

    Args:
        channels: C, at least 4.
        drop_path: rate of stochastic depth, 0 to 1, in training.
        initial_scale: of both halves.

    Raises:
        UsageError: too few channels, or a rate outside 0..1.
    """

    def __init__(
        self, channels: int, *, drop_path: float = 0.0, initial_scale: float = 0.1
    ) -> None:
        super().__init__()
        if channels < LEAST_CHANNELS:
            raise UsageError(f"RWKVBlock({channels}): give {LEAST_CHANNELS} channels or more")
        if not 0 <= drop_path < 1:
            raise UsageError(f"RWKVBlock: drop_path {drop_path} is not a rate from 0 to 1")
        self.spatial_norm, self.channel_norm = ChannelNorm(channels), ChannelNorm(channels)
        self.spatial_mix, self.channel_mix = SpatialMix(channels), ChannelMix(channels)
        self.spatial_scale = nn.Parameter(torch.full((channels, 1, 1), float(initial_scale)))
        self.channel_scale = nn.Parameter(torch.full((channels, 1, 1), float(initial_scale)))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        height, width = x.shape[2:]
        mixed = to_map(self.spatial_mix(self.spatial_norm(x)), height, width)
        x = x + self.drop_path(self.spatial_scale * mixed)
        mixed = to_map(self.channel_mix(self.channel_norm(x)), height, width)
        return x + self.drop_path(self.channel_scale * mixed)
