"""The plain U-Net that every paper of the field compares with (Ronneberger et al., MICCAI 2015)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rwkv_edge.config import UNetSize

DEPTH = 4


class DoubleConv(nn.Sequential):
    """Twice: 3x3 convolution, BatchNorm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        layers: list[nn.Module] = []
        for channels in (in_channels, out_channels):
            layers += [
                nn.Conv2d(channels, out_channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


class UNet(nn.Module):
    """Four halvings by max-pooling, four doublings by transposed convolution, four skips."""

    def __init__(self, size: UNetSize, num_classes: int = 1, in_channels: int = 3) -> None:
        super().__init__()
        widths = [size.base_width * 2**level for level in range(DEPTH + 1)]
        self.encoder = nn.ModuleList(
            DoubleConv(a, b) for a, b in zip([in_channels, *widths[:-1]], widths, strict=True)
        )
        self.pool = nn.MaxPool2d(2)
        self.upsample = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 2, stride=2)
            for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.decoder = nn.ModuleList(DoubleConv(2 * width, width) for width in widths[-2::-1])
        self.final_conv = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W), H and W multiples of 16, to (B, num_classes, H, W) logits."""
        skips = []
        for level, block in enumerate(self.encoder):
            x = block(self.pool(x) if level else x)
            skips.append(x)
        for upsample, block, skip in zip(self.upsample, self.decoder, skips[-2::-1], strict=True):
            x = block(torch.cat([upsample(x), skip], dim=1))
        return self.final_conv(x)
