"""RWKV-UNet (arXiv 2501.08458): one class for every size."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rwkv_edge.config import RWKVUNetSize
from rwkv_edge.models.blocks import ChannelNorm, ConvNormAct, InvertedResidual
from rwkv_edge.models.ccm import CrossChannelMix


class Encoder(nn.Module):
    """A stem at full resolution and four stages that halve it."""

    def __init__(self, size: RWKVUNetSize, in_channels: int) -> None:
        super().__init__()
        self.stage0 = nn.ModuleList(
            [
                InvertedResidual(
                    in_channels,
                    size.stem_width,
                    1.0,
                    size.kernel_size,
                    skip=False,
                    squeeze_excite=True,
                )
            ]
        )
        total = sum(size.depths)
        done, width = 0, size.stem_width
        for stage, (depth, out, expansion) in enumerate(
            zip(size.depths, size.widths, size.expansions, strict=True), start=1
        ):
            attention = stage in size.attention_stages
            blocks = []
            for index in range(depth):
                first = index == 0
                blocks.append(
                    InvertedResidual(
                        width,
                        out,
                        expansion * 2 if first else expansion,
                        size.kernel_size,
                        stride=2 if first else 1,
                        skip=not first,
                        attention=attention and not first,
                        norm=ChannelNorm if attention else nn.BatchNorm2d,
                        drop_path=size.drop_path * done / max(1, total - 1),
                    )
                )
                done, width = done + 1, out
            setattr(self, f"stage{stage}", nn.ModuleList(blocks))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, in_channels, H, W) to the four stages' outputs at 1/2, 1/4, 1/8 and 1/16."""
        outputs = []
        for blocks in self.children():
            for block in blocks.children():
                x = block(x)
            outputs.append(x)
        return outputs[1:]


class DecoderBlock(nn.Module):
    """Pointwise, large depthwise, pointwise; then twice the resolution."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = ConvNormAct(in_channels, in_channels)
        self.conv_local = ConvNormAct(
            in_channels, in_channels, kernel_size, groups=in_channels, act=nn.SiLU
        )
        self.proj = ConvNormAct(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, out_channels, 2 H, 2 W)."""
        x = self.proj(self.conv_local(self.conv(x)))
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class RWKVUNet(nn.Module):
    """Encoder, Cross-Channel Mix of the skips, decoder, 1x1 head.

    Args:
        size: one of `rwkv_edge.config.SIZES`.
        num_classes: planes of logits; 1 for a binary mask.
        in_channels: planes of the image.
    """

    def __init__(self, size: RWKVUNetSize, num_classes: int = 1, in_channels: int = 3) -> None:
        super().__init__()
        self.encoder = Encoder(size, in_channels)
        shallow, middle, deep, bottom = size.widths
        self.ccm = CrossChannelMix((deep, middle, shallow))
        kernel = size.decoder_kernel_size
        self.decoder1 = DecoderBlock(bottom, deep, kernel)
        self.decoder2 = DecoderBlock(2 * deep, middle, kernel)
        self.decoder3 = DecoderBlock(2 * middle, shallow, kernel)
        self.decoder4 = DecoderBlock(2 * shallow, size.decoder_out_width, kernel)
        self.final_conv = nn.Conv2d(size.decoder_out_width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Segment normalised images.

        Args:
            x: (B, in_channels, H, W), H and W multiples of 16.

        Returns:
            (B, num_classes, H, W) logits.
        """
        shallow, middle, deep, bottom = self.encoder(x)
        skips = self.ccm([deep, middle, shallow])
        x = self.decoder1(bottom)
        for decoder, skip in zip((self.decoder2, self.decoder3, self.decoder4), skips, strict=True):
            x = decoder(torch.cat([x, skip], dim=1))
        return self.final_conv(x)
