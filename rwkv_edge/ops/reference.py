"""Our operators as their formulae say, in float64: what every faster form is compared with."""

from __future__ import annotations

import torch
from torch import Tensor

ROW_BLOCK_BYTES = 1 << 27


def bi_wkv_ref(w: Tensor, u: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Mix the tokens of each channel, weighting by key and by distance (Vision-RWKV, equation 4).

    y[t] is the mean of v under the weights exp(-(|t-i|-1) w + k[i]) for i != t and exp(u + k[t]):
    a softmax over tokens whose logits fall (or, for negative w, rise) linearly with the distance.
    Quadratic in time, but never more than a block of rows in memory. Differentiable.

    Args:
        w: (C,) decay for each step of distance, already divided by T; either sign.
        u: (C,) bonus of the token itself, already divided by T.
        k: (B, T, C) keys.
        v: (B, T, C) values.

    Returns:
        (B, T, C) float64.
    """
    w, u, k, v = (x.double() for x in (w, u, k, v))
    batch, tokens, channels = k.shape
    keys, values = k.transpose(1, 2), v.transpose(1, 2)
    position = torch.arange(tokens, device=k.device)
    rows = max(1, ROW_BLOCK_BYTES // (8 * max(1, batch * channels * tokens)))
    blocks = []
    for start in range(0, tokens, rows):
        row = position[start : start + rows, None]
        distance = (row - position).abs()
        bias = torch.where(distance == 0, u[:, None, None], -(distance - 1) * w[:, None, None])
        weights = torch.softmax(bias + keys[:, :, None, :], dim=-1)
        blocks.append((weights @ values[..., None])[..., 0])
    return torch.cat(blocks, dim=2).transpose(1, 2)


def shift_mix_ref(x: Tensor, ratio: Tensor) -> Tensor:
    """Shift four quarters of the channels by one pixel and mix with the unshifted map.

    The quarters move right, left, down and up, zeros come in, channels that remain stay.

    Args:
        x: (B, C, H, W).
        ratio: share of the unshifted map in each channel, C elements.

    Returns:
        (B, H, W, C) float64.
    """
    x = x.double()
    shifted, quarter = x.clone(), x.shape[1] // 4
    right, left, down, up = (slice(i * quarter, (i + 1) * quarter) for i in range(4))
    shifted[:, : 4 * quarter] = 0
    shifted[:, right, :, 1:] = x[:, right, :, :-1]
    shifted[:, left, :, :-1] = x[:, left, :, 1:]
    shifted[:, down, 1:] = x[:, down, :-1]
    shifted[:, up, :-1] = x[:, up, 1:]
    share = ratio.double().reshape(-1, 1, 1)
    return (share * x + (1 - share) * shifted).permute(0, 2, 3, 1)
