"""Augmentation of whole batches on the device, made for endoscopes.

Every orientation of the camera is as good as another, hence full rotation; light and colour differ
between light sources, cameras and patients; scopes blur and add noise. All is arithmetic on tensors
of the device, random numbers included: the host waits for nothing, and a CUDA graph can hold it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional as F

from rwkv_edge.training import appearance, geometry

SHARES: Mapping[str, float] = MappingProxyType(
    {
        "flip": 0.5,
        "affine": 0.9,
        "elastic": 0.2,
        "paste": 0.15,
        "inset": 0.05,
        "colour": 0.9,
        "cast": 0.4,
        "veil": 0.1,
        "highlights": 0.15,
        "blur": 0.25,
        "coarsen": 0.1,
        "noise": 0.2,
        "view": 0.15,
    }
)
"""The share of the pictures that each ingredient changes."""

LIGHT = ("flip", "affine", "colour", "cast")
"""What a short run has the time to learn from."""


def augment(
    images: Tensor, masks: Tensor, size: int, shares: Mapping[str, float] = SHARES
) -> tuple[Tensor, Tensor]:
    """Resize and augment stored pictures.

    Args:
        images: (B, H, W, 3) uint8 BGR.
        masks: (B, H, W) uint8 class labels.
        size: side of the result in pixels, a multiple of 4.
        shares: of every name in `SHARES`, 0..1.

    Returns:
        (B, size, size, 3) uint8 BGR and (B, size, size) int64.
    """
    planes, labels = resize(images, masks, size)
    planes, labels = geometry.move(
        planes / 255, labels, shares["flip"], shares["affine"], shares["elastic"]
    )
    planes, labels = geometry.paste(planes, labels, shares["paste"])
    planes, labels = geometry.inset(planes, labels, shares["inset"])
    planes = appearance.colour(planes, shares["colour"])
    planes = appearance.cast(planes, shares["cast"])
    planes = appearance.veil(planes, shares["veil"])
    planes = appearance.highlights(planes, shares["highlights"])
    planes = appearance.blur(planes, shares["blur"])
    planes = appearance.coarsen(planes, shares["coarsen"])
    planes = appearance.noise(planes, shares["noise"])
    planes, labels = geometry.mask_view(planes, labels, shares["view"])
    return to_pixels(planes.clamp(0, 1) * 255, labels)


def resize(images: Tensor, masks: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Bring stored pictures to (B, 3, size, size) and (B, 1, size, size) float, 0 to 255."""
    planes, labels = images.permute(0, 3, 1, 2).float(), masks[:, None].float()
    if planes.shape[2:] != (size, size):
        planes = F.interpolate(planes, (size, size), mode="area")
        labels = F.interpolate(labels, (size, size), mode="nearest-exact")
    return planes, labels


def to_pixels(planes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Turn what `resize` returns into (B, size, size, 3) uint8 and (B, size, size) int64."""
    return planes.round().to(torch.uint8).permute(0, 2, 3, 1), labels[:, 0].long()
