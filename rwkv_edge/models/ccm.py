"""Cross-Channel Mix: the skips of three encoder stages, mixed by channels (paper, 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rwkv_edge.models.blocks import q_shift, to_map, to_tokens

HIDDEN_RATE = 2


class ChannelMix(nn.Module):
    """RWKV's channel mixing: q-shift, squared ReLU, norm, and a sigmoid gate."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels * HIDDEN_RATE
        mix = (torch.arange(channels) / channels)[None, None]
        self.spatial_mix_k = nn.Parameter(mix.clone())
        self.spatial_mix_r = nn.Parameter(mix.clone())
        self.key = nn.Linear(channels, hidden, bias=False)
        self.key_norm = nn.LayerNorm(hidden)
        self.receptance = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(hidden, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to tokens (B, H W, C)."""
        tokens, shifted = to_tokens(x), to_tokens(q_shift(x))
        k = self.key(shifted + (tokens - shifted) * self.spatial_mix_k)
        r = self.receptance(shifted + (tokens - shifted) * self.spatial_mix_r)
        return torch.sigmoid(r) * self.value(self.key_norm(F.relu(k).square()))


class CrossChannelMix(nn.Module):
    """Bring the skips to one size and width, mix them together, and send each back.

    Args:
        widths: channels of the skips, deepest first.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        common = widths[-1]
        total = common * len(widths)
        self.common = common
        self.projections = nn.ModuleList(nn.Conv2d(width, common, 1) for width in widths)
        self.ln1 = nn.LayerNorm(total)
        self.channel = ChannelMix(total)
        self.final_projections = nn.ModuleList(nn.Conv2d(common, width, 1) for width in widths)

    def forward(self, skips: list[Tensor]) -> list[Tensor]:
        """Skips (B, C_i, H_i, W_i), deepest first, to tensors of the same shapes.

        The last, shallowest one sets the size at which they are mixed: half the network's input.
        """
        height, width = skips[-1].shape[2:]
        x = torch.cat(
            [
                project(_resize(skip, (height, width)))
                for project, skip in zip(self.projections, skips, strict=True)
            ],
            dim=1,
        )
        x = x + to_map(self.ln1(self.channel(x)), height, width)
        parts = x.split(self.common, dim=1)
        return [
            _resize(project(part), (skip.shape[2], skip.shape[3]))
            for project, part, skip in zip(self.final_projections, parts, skips, strict=True)
        ]


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    if (x.shape[2], x.shape[3]) == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
