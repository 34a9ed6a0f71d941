"""Augmentation of whole batches on the device, made for endoscopes.

Every orientation of the camera is as good as another, hence full rotation; light and colour differ
between light sources, cameras and patients; scopes blur and add noise. All is arithmetic on tensors
of the device, random numbers included: the host waits for nothing, and a CUDA graph can hold it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

FLIP = 0.5
AFFINE, SCALE, SHEAR, SHIFT = 0.9, (0.65, 1.5), math.radians(8), 0.2
"""Probability; zoom; largest shear; largest shift in halves of the image."""
ELASTIC, ELASTIC_STEP, ELASTIC_SHARE = 0.2, 16, 0.015
"""Probability; pixels between control points; standard deviation in halves of the image."""
COLOUR, BRIGHTNESS, CONTRAST, SATURATION, HUE = 0.9, 0.4, 0.3, 0.3, 0.03 * 2 * math.pi
BLUR, BLUR_SIGMA, BLUR_RADIUS = 0.15, (0.1, 1.5), 2
NOISE, NOISE_SIGMA = 0.2, 0.03
LUMA_BGR = (0.114, 0.587, 0.299)


def augment(images: Tensor, masks: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Resize and augment stored pictures.

    Args:
        images: (B, H, W, 3) uint8 BGR.
        masks: (B, H, W) uint8 class labels.
        size: side of the result in pixels.

    Returns:
        (B, size, size, 3) uint8 BGR and (B, size, size) int64.
    """
    planes, labels = resize(images, masks, size)
    grid = _sampling_grid(planes.shape[0], size, planes.device)
    planes = F.grid_sample(planes, grid, "bilinear", align_corners=False)
    labels = F.grid_sample(labels, grid, "nearest", align_corners=False)
    planes = _add_noise(_blur(_jitter_colour(planes / 255)))
    pixels = (planes.clamp(0, 1) * 255).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1), labels[:, 0].long()


def resize(images: Tensor, masks: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Bring stored pictures to (B, 3, size, size) and (B, 1, size, size) float, 0 to 255."""
    planes, labels = images.permute(0, 3, 1, 2).float(), masks[:, None].float()
    if planes.shape[2:] != (size, size):
        planes = F.interpolate(planes, (size, size), mode="area")
        labels = F.interpolate(labels, (size, size), mode="nearest-exact")
    return planes, labels


def _uniform(low: float, high: float, *shape: int, device: torch.device) -> Tensor:
    return torch.rand(*shape, device=device) * (high - low) + low


def _chosen(share: float, *shape: int, device: torch.device) -> Tensor:
    """Ones for a share of the batch, zeros for the rest."""
    return (torch.rand(*shape, device=device) < share).float()


def _sampling_grid(batch: int, size: int, device: torch.device) -> Tensor:
    """Where each pixel comes from, (B, size, size, 2) in -1..1: flips, affine map, elastic map."""

    def uniform(low: float, high: float) -> Tensor:
        return _uniform(low, high, batch, device=device)

    moved = _chosen(AFFINE, batch, device=device)
    angle = uniform(-math.pi, math.pi) * moved
    zoom = torch.exp(uniform(math.log(SCALE[0]), math.log(SCALE[1])) * moved)
    shear = torch.tan(uniform(-SHEAR, SHEAR) * moved)
    flips = [1 - 2 * _chosen(FLIP, batch, device=device) for _ in range(2)]
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    shifts = [uniform(-SHIFT, SHIFT) * moved for _ in range(2)]
    rows = [
        (cos * flips[0], (cos * shear - sin) * flips[0], shifts[0]),
        (sin * flips[1], (sin * shear + cos) * flips[1], shifts[1]),
    ]
    affine = torch.stack([torch.stack(row, 1) for row in rows], 1)
    grid = F.affine_grid(affine, [batch, 1, size, size], align_corners=False)
    points = max(2, size // ELASTIC_STEP)
    bend = torch.randn(batch, 2, points, points, device=device) * ELASTIC_SHARE
    bend = bend * _chosen(ELASTIC, batch, 1, 1, 1, device=device)
    bend = F.interpolate(bend, (size, size), mode="bicubic", align_corners=False)
    return grid + bend.permute(0, 2, 3, 1)


def _jitter_colour(planes: Tensor) -> Tensor:
    """Saturation and hue turn and stretch colours about grey; then brightness and contrast."""
    batch, device = planes.shape[0], planes.device
    chosen = _chosen(COLOUR, batch, 1, 1, device=device)

    def around(one: float, spread: float) -> Tensor:
        return one + _uniform(-spread, spread, batch, 1, 1, device=device) * chosen

    luma = torch.stack([torch.full((3,), share, device=device) for share in LUMA_BGR], 1)
    eye = torch.eye(3, device=device)
    # a turn about the grey axis (Rodrigues): the cross product with (1, 1, 1) / sqrt 3
    cross = (eye.roll(-1, 1) - eye.roll(1, 1)) / math.sqrt(3)
    angle = around(0.0, HUE)
    turn = torch.cos(angle) * eye + torch.sin(angle) * cross + (1 - torch.cos(angle)) / 3
    saturation = around(1.0, SATURATION)
    matrix = (luma + saturation * (eye - luma)) @ turn * around(1.0, BRIGHTNESS)
    planes = (matrix @ planes.flatten(2)).view_as(planes)
    grey = planes.mean((1, 2, 3), keepdim=True)
    return grey + (planes - grey) * around(1.0, CONTRAST)[..., None]


def _blur(planes: Tensor) -> Tensor:
    """A Gaussian of each picture's own width; the identity for those not chosen."""
    batch, device = planes.shape[0], planes.device
    sigma = _uniform(*BLUR_SIGMA, batch, 1, device=device)
    sigma = sigma * _chosen(BLUR, batch, 1, device=device) + 1e-3
    offset = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1, device=device)
    kernel = torch.softmax(-(offset**2) / (2 * sigma**2), 1)
    kernel = kernel.repeat_interleave(3, 0)[:, None, None]
    flat = F.pad(planes, (BLUR_RADIUS,) * 4, mode="replicate").flatten(0, 1)[None]
    flat = F.conv2d(flat, kernel, groups=3 * batch)
    flat = F.conv2d(flat, kernel.transpose(2, 3), groups=3 * batch)
    return flat[0].view_as(planes)


def _add_noise(planes: Tensor) -> Tensor:
    amount = NOISE_SIGMA * _chosen(NOISE, planes.shape[0], 1, 1, 1, device=planes.device)
    return planes + torch.randn_like(planes) * amount
