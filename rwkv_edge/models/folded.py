"""The modules that `fold` puts in place of the trained ones: the same functions with less work.

Feature maps are (B, C, H, W). What is normalised or mixed over channels is (B, H, W, C): a linear
map and a LayerNorm then run along memory, and a runtime changes the layout once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rwkv_edge.models.blocks import InvertedResidual, SpatialMix
from rwkv_edge.models.ccm import ChannelMix, CrossChannelMix
from rwkv_edge.models.rwkv_unet import DecoderBlock, RWKVUNet
from rwkv_edge.models.segmenter import Segmenter
from rwkv_edge.ops import bi_wkv, shift_mix, shift_mix_weight


class RawSegmenter(Segmenter):
    """A segmenter whose network takes the pixels as they are: (N, 3, H, W) BGR in 0..255."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__(segmenter.network)
        self.to(segmenter.scale.dtype)

    def normalise(self, image: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 BGR to (N, 3, H, W) of the buffers' type."""
        return image.to(self.scale.dtype).permute(0, 3, 1, 2)


def channels_last(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, H, W, C)."""
    return x.permute(0, 2, 3, 1)


def channels_first(x: Tensor) -> Tensor:
    """(B, H, W, C) to (B, C, H, W)."""
    return x.permute(0, 3, 1, 2)


def enlarge(x: Tensor, factor: int) -> Tensor:
    """Bilinear, align_corners false: (B, C, H, W) to (B, C, factor H, factor W)."""
    if factor == 1:
        return x
    return F.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)


def shrink(x: Tensor, factor: int) -> Tensor:
    """Bilinear, align_corners false: (B, C, H, W) to (B, C, H / factor, W / factor).

    For an even factor that is the mean of the middle 2x2 pixels of each square.
    """
    if factor == 1:
        return x
    margin = factor // 2 - 1
    height, width = x.shape[2:]
    return F.avg_pool2d(x[..., margin : height - margin, margin : width - margin], 2, factor)


def pointwise(weight: Tensor, bias: Tensor | None = None) -> nn.Conv2d:
    """Return the 1x1 convolution with this weight (out, in) and bias (out,)."""
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1, bias=bias is not None)
    conv.weight = nn.Parameter(weight[:, :, None, None])
    if bias is not None:
        conv.bias = nn.Parameter(bias)
    return conv


def matrix(conv: nn.Conv2d) -> Tensor:
    """Return the weight (out, in) of a 1x1 convolution."""
    return conv.weight[:, :, 0, 0]


class ShiftMix(nn.Module):
    """q-shift and its mixes with the unshifted map, in one pass over the map.

    Args:
        ratios: of each mix, (1, 1, C), the share of the unshifted map.
    """

    def __init__(self, *ratios: Tensor) -> None:
        super().__init__()
        self.weights = nn.ParameterList(shift_mix_weight(ratio) for ratio in ratios)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, H, W) to (B, H, W, C) for each mix."""
        return shift_mix(x, list(self.weights))


class FoldedSpatialMix(nn.Module):
    """SpatialMix that shifts and mixes in one pass."""

    def __init__(self, mix: SpatialMix) -> None:
        super().__init__()
        self.spatial_decay, self.spatial_first = mix.spatial_decay, mix.spatial_first
        self.shift = ShiftMix(mix.spatial_mix_k, mix.spatial_mix_v, mix.spatial_mix_r)
        self.key, self.value, self.receptance = mix.key, mix.value, mix.receptance
        self.key_norm, self.output = mix.key_norm, mix.output

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, H, W, C)."""
        mixed_k, mixed_v, mixed_r = self.shift(x)
        k, v, r = self.key(mixed_k), self.value(mixed_v), self.receptance(mixed_r)
        height, width = x.shape[2:]
        count = height * width
        y = bi_wkv(
            self.spatial_decay / count, self.spatial_first / count, k.flatten(1, 2), v.flatten(1, 2)
        )
        return self.output(torch.sigmoid(r) * self.key_norm(y).unflatten(1, (height, width)))


class FoldedAttentionBlock(nn.Module):
    """InvertedResidual with attention, its tokens kept as (B, H, W, C)."""

    def __init__(self, block: InvertedResidual) -> None:
        super().__init__()
        self.norm, self.conv = block.norm, block.conv
        self.att, self.ln1 = FoldedSpatialMix(block.att), block.ln1
        self.conv_local, self.proj = block.conv_local, block.proj

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        y = self.conv(self.norm(x))
        y = channels_first(channels_last(y) + self.ln1(self.att(y)))
        return x + self.proj(y + self.conv_local(y))


class FoldedChannelMix(nn.Module):
    """ChannelMix that shifts and mixes in one pass."""

    def __init__(self, mix: ChannelMix) -> None:
        super().__init__()
        self.shift = ShiftMix(mix.spatial_mix_k, mix.spatial_mix_r)
        self.key, self.receptance = mix.key, mix.receptance
        self.key_norm, self.value = mix.key_norm, mix.value

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, H, W, C)."""
        mixed_k, mixed_r = self.shift(x)
        k, r = F.relu(self.key(mixed_k)), self.receptance(mixed_r)
        return torch.sigmoid(r) * self.value(self.key_norm(k * k))


class FoldedCrossChannelMix(nn.Module):
    """CrossChannelMix that projects before it enlarges, and hands its parts out unprojected."""

    def __init__(self, ccm: CrossChannelMix) -> None:
        super().__init__()
        self.common = ccm.common
        self.projections, self.ln1 = ccm.projections, ccm.ln1
        self.channel = FoldedChannelMix(ccm.channel)

    def forward(self, skips: Sequence[Tensor]) -> list[Tensor]:
        """Skips (B, C_i, H_i, W_i), deepest first, each twice the size of the one before.

        Returns:
            (B, common, H_i, W_i) for each.
        """
        factors = [2**level for level in reversed(range(len(skips)))]
        enlarged = [
            enlarge(project(skip), factor)
            for project, skip, factor in zip(self.projections, skips, factors, strict=True)
        ]
        mixed = self.ln1(self.channel(torch.cat(enlarged, dim=1))).split(self.common, dim=3)
        # the residual is added part by part, so that its 3 C channels need not change their layout
        return [
            shrink(part + channels_first(change), factor)
            for part, change, factor in zip(enlarged, mixed, factors, strict=True)
        ]


class FoldedDecoderBlock(nn.Module):
    """DecoderBlock without the enlarging at its end: what follows does it.

    Where there is a skip, the first convolution is split over the two inputs, so that each half
    runs at its own resolution, and the half for the skip contains the skip's projection.
    """

    def __init__(self, block: DecoderBlock, projection: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = conv = block.conv.conv
        self.conv_local, self.proj = block.conv_local, block.proj
        self.conv_skip: nn.Conv2d | None = None
        if projection is None:
            return
        assert isinstance(projection, nn.Conv2d)
        assert conv.bias is not None
        assert projection.bias is not None
        width = projection.out_channels
        own, other = matrix(conv).split([conv.in_channels - width, width], dim=1)
        self.conv = pointwise(own, conv.bias + other @ projection.bias)
        self.conv_skip = pointwise(other @ matrix(projection))

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """(B, C, H, W), and (B, common, 2 H, 2 W), to (B, out_channels, H or 2 H, W or 2 W)."""
        y = self.conv(x)
        if self.conv_skip is not None:
            assert skip is not None
            y = enlarge(y, 2) + self.conv_skip(skip)
        return self.proj(self.conv_local(F.relu(y)))


class FoldedRWKVUNet(nn.Module):
    """RWKVUNet that enlarges after 1x1 convolutions and shrinks before them."""

    def __init__(self, network: RWKVUNet) -> None:
        super().__init__()
        self.encoder, self.ccm = network.encoder, FoldedCrossChannelMix(network.ccm)
        deep, middle, shallow = network.ccm.final_projections
        self.decoder1 = FoldedDecoderBlock(network.decoder1)
        self.decoder2 = FoldedDecoderBlock(network.decoder2, deep)
        self.decoder3 = FoldedDecoderBlock(network.decoder3, middle)
        self.decoder4 = FoldedDecoderBlock(network.decoder4, shallow)
        self.final_conv = network.final_conv

    def forward(self, x: Tensor) -> Tensor:
        """See `RWKVUNet`."""
        shallow, middle, deep, bottom = self.encoder(x)
        skips = self.ccm([deep, middle, shallow])
        x = self.decoder1(bottom)
        for decoder, skip in zip((self.decoder2, self.decoder3, self.decoder4), skips, strict=True):
            x = decoder(x, skip)
        return enlarge(self.final_conv(x), 2)
