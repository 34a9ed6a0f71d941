"""The building blocks of RWKV-UNet: convolutions, norms, token mixing and the inverted residual.

Parameter names are those of the upstream checkpoints, so that loading one needs no translation.
Feature maps are (B, C, H, W), tokens (B, T, C) in raster order with T = H W.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rwkv_edge.ops import bi_wkv

BATCH_NORM_EPS = 1e-6
CHANNEL_NORM_EPS = 1e-6


class ConvNormAct(nn.Module):
    """Convolution without bias, BatchNorm and activation; "same" padding for odd kernels."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        norm: bool = True,
        act: type[nn.Module] | None = nn.ReLU,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding=kernel_size // 2,
            groups=groups,
            bias=False,
        )
        self.norm = nn.BatchNorm2d(out_channels, eps=BATCH_NORM_EPS) if norm else nn.Identity()
        self.act = act() if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, out_channels, H / stride, W / stride)."""
        return self.act(self.norm(self.conv(x)))


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of each pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=CHANNEL_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SqueezeExcite(nn.Module):
    """Gate each channel by a function of the image's mean (SiLU, then a sigmoid)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, channels, 1)
        self.conv_expand = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        squeezed = F.silu(self.conv_reduce(x.mean((2, 3), keepdim=True)))
        return x * torch.sigmoid(self.conv_expand(squeezed))


class DropPath(nn.Module):
    """Stochastic depth: in training, drop the whole branch of a sample with probability `rate`."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) to the same."""
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * mask / keep


def q_shift(x: Tensor) -> Tensor:
    """Shift four quarters of the channels by one pixel: right, left, down, up; zeros come in.

    Channels that remain after four equal quarters stay where they are. (B, C, H, W) to the same.
    Padding and slicing only: index assignment would export as ScatterND.
    """
    quarter = x.shape[1] // 4
    right, left, down, up, rest = x.split([quarter] * 4 + [x.shape[1] - 4 * quarter], dim=1)
    return torch.cat(
        [
            F.pad(right, (1, 0))[..., :-1],
            F.pad(left, (0, 1))[..., 1:],
            F.pad(down, (0, 0, 1, 0))[:, :, :-1],
            F.pad(up, (0, 0, 0, 1))[:, :, 1:],
            rest,
        ],
        dim=1,
    )


def to_tokens(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, H W, C)."""
    return x.flatten(2).transpose(1, 2)


def to_map(x: Tensor, height: int, width: int) -> Tensor:
    """(B, H W, C) to (B, C, H, W)."""
    return x.transpose(1, 2).unflatten(2, (height, width))


class SpatialMix(nn.Module):
    """RWKV's token mixing: q-shift, key, value and receptance, bi-WKV, norm, gate (paper, 3.2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # RWKV-4's start: decays spread over the channels from slow to fast, a bonus for the token
        # itself that zigzags, and mixing ratios that rise with the channel.
        ratio = torch.arange(channels) / max(1, channels - 1)
        zigzag = ((torch.arange(channels) + 1) % 3 - 1) * 0.5
        self.spatial_decay = nn.Parameter(-5 + 8 * ratio**0.7)
        self.spatial_first = nn.Parameter(torch.full((channels,), 0.3).log() + zigzag)
        mix = (torch.arange(channels) / channels)[None, None]
        self.spatial_mix_k = nn.Parameter(mix.clone())
        self.spatial_mix_v = nn.Parameter(mix + 0.3)
        self.spatial_mix_r = nn.Parameter(0.5 * mix)
        self.key = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, channels, bias=False)
        self.receptance = nn.Linear(channels, channels, bias=False)
        self.key_norm = nn.LayerNorm(channels)
        self.output = nn.Linear(channels, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to tokens (B, H W, C)."""
        tokens, shifted = to_tokens(x), to_tokens(q_shift(x))
        mixed = [
            shifted + (tokens - shifted) * ratio
            for ratio in (self.spatial_mix_k, self.spatial_mix_v, self.spatial_mix_r)
        ]
        k, v, r = self.key(mixed[0]), self.value(mixed[1]), self.receptance(mixed[2])
        count = tokens.shape[1]
        y = bi_wkv(self.spatial_decay / count, self.spatial_first / count, k, v)
        return self.output(torch.sigmoid(r) * self.key_norm(y))


class InvertedResidual(nn.Module):
    """The paper's IR-RWKV (now GLSP): expand, mix tokens globally, mix pixels locally, project."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        expansion: float,
        kernel_size: int,
        *,
        stride: int = 1,
        skip: bool = True,
        attention: bool = False,
        squeeze_excite: bool = False,
        norm: type[nn.Module] | None = None,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        mid = int(in_channels * expansion)
        self.skip = skip
        self.norm = _make_norm(norm, in_channels)
        self.conv = ConvNormAct(in_channels, mid)
        if attention:
            self.att = SpatialMix(mid)
            self.ln1 = nn.LayerNorm(mid)
        self.attention = attention
        self.conv_local = ConvNormAct(mid, mid, kernel_size, stride=stride, groups=mid, act=nn.SiLU)
        self.se = SqueezeExcite(mid) if squeeze_excite else nn.Identity()
        self.proj = ConvNormAct(mid, out_channels, norm=False, act=None)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, out_channels, H / stride, W / stride)."""
        y = self.conv(self.norm(x))
        if self.attention:
            y = y + to_map(self.ln1(self.att(y)), y.shape[2], y.shape[3])
        local = self.se(self.conv_local(y))
        y = self.proj(y + local if self.skip else local)
        return x + self.drop_path(y) if self.skip else y


def _make_norm(norm: type[nn.Module] | None, channels: int) -> nn.Module:
    if norm is None:
        return nn.Identity()
    if norm is nn.BatchNorm2d:
        return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPS)
    return norm(channels)
