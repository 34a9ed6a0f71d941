"""ShiftMix as a Torch op: q-shift and its mixes with the unshifted map, which come tokens-last.

A mix is a depthwise 3x3 filter with two taps: the pixel itself, and the neighbour from which the
channel is shifted. For inference alone: no gradients.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

NEIGHBOURS = ((1, 0), (1, 2), (0, 1), (2, 1))
"""Row and column of the neighbour's tap for each quarter of the channels: from the left, the right,
above and below. Channels that remain after four equal quarters have none."""


def shift_mix_weight(ratio: Tensor) -> Tensor:
    """Return the filter (C, 1, 3, 3) of one mix.

    Args:
        ratio: share of the unshifted map in each channel, C elements.
    """
    share = ratio.flatten()
    quarter = share.numel() // 4
    weight = share.new_zeros(share.numel(), 1, 3, 3)
    weight[:, 0, 1, 1] = share
    for index, (row, column) in enumerate(NEIGHBOURS):
        part = slice(index * quarter, (index + 1) * quarter)
        weight[part, 0, row, column] = 1 - share[part]
    weight[4 * quarter :, 0, 1, 1] = 1
    return weight


def shift_mix(x: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """Shift and mix a map in several ways: the fast form of `shift_mix_ref`.

    Args:
        x: (B, C, H, W), any floating type.
        weights: from `shift_mix_weight`, of the type of `x`; those taps alone count.

    Returns:
        (B, H, W, C) for each weight.
    """
    mixed: list[Tensor] = shift_mix_op(x, list(weights))
    return mixed


@torch.library.custom_op("rwkv_edge::shift_mix", mutates_args=())
def shift_mix_op(x: Tensor, weights: list[Tensor]) -> list[Tensor]:
    """The op itself."""
    return [
        F.conv2d(x, weight, padding=1, groups=x.shape[1]).permute(0, 2, 3, 1).contiguous()
        for weight in weights
    ]


@shift_mix_op.register_fake
def _(x: Tensor, weights: list[Tensor]) -> list[Tensor]:
    batch, channels, height, width = x.shape
    return [x.new_empty(batch, height, width, channels) for _ in weights]
