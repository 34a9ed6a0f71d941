"""Augmentation of how things look: light source, camera, lens, what is on the lens and the tissue.

Each takes planes (B, 3, S, S), BGR in 0..1, and the share of the pictures that it changes, and
returns new planes that may leave 0..1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from rwkv_edge.training.geometry import chosen, uniform

BRIGHTNESS, CONTRAST, SATURATION, HUE = 0.4, 0.3, 0.3, 0.03 * 2 * math.pi
CAST, GAMMA = 0.35, 0.4
"""Largest logarithm of a channel's gain, and of the exponent."""
VEIL_CELLS, VEIL_THICKNESS = 4, (0.3, 0.9)
HIGHLIGHT_CELL, HIGHLIGHT_RAREST = 6, (0.94, 1.02)
"""Pixels of a highlight; what of the noise stays below it (its peaks overshoot 1)."""
BLUR_REACH, BLUR_SIGMA = 32, 0.4
"""The kernel reaches a picture's side divided by this; sigma at most this share of the reach."""
NOISE_SIGMA = (0.01, 0.05)
LUMA_BGR = (0.114, 0.587, 0.299)


def colour(planes: Tensor, share: float) -> Tensor:
    """Saturation and hue turn and stretch colours about grey; then brightness and contrast."""
    batch, device = planes.shape[0], planes.device
    taken = chosen(share, batch, 1, 1, device=device)

    def around(one: float, spread: float) -> Tensor:
        return one + uniform(-spread, spread, batch, 1, 1, device=device) * taken

    luma = torch.stack([torch.full((3,), part, device=device) for part in LUMA_BGR], 1)
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


def cast(planes: Tensor, share: float) -> Tensor:
    """Another white balance, and another curve of the camera (gamma)."""
    batch, device = planes.shape[0], planes.device
    taken = chosen(share, batch, 1, 1, 1, device=device)
    gain = torch.exp(uniform(-CAST, CAST, batch, 3, 1, 1, device=device) * taken)
    power = torch.exp(uniform(-GAMMA, GAMMA, batch, 1, 1, 1, device=device) * taken)
    # clamped above 0, where a power has no slope; nobody sees a difference of a thousandth
    return planes.clamp(min=1e-3) ** power * gain


def veil(planes: Tensor, share: float) -> Tensor:
    """Smoke, bile, stool or blood: a soft cloud of one colour before a part of the picture."""
    batch, _, size, _ = planes.shape
    device = planes.device
    cloud = _noise_map(batch, VEIL_CELLS, size, device)
    thickness = uniform(*VEIL_THICKNESS, batch, 1, 1, 1, device=device)
    alpha = (cloud * 2.5 - 0.75).clamp(0, 1) * thickness
    alpha = alpha * chosen(share, batch, 1, 1, 1, device=device)
    tone = uniform(0.25, 0.85, batch, 1, 1, 1, device=device)
    tint = uniform(0.5, 1.0, batch, 3, 1, 1, device=device)
    return planes + (tone * tint - planes) * alpha


def highlights(planes: Tensor, share: float) -> Tensor:
    """Reflections of the lamp on wet tissue: small white spots."""
    batch, _, size, _ = planes.shape
    device = planes.device
    spots = _noise_map(batch, max(2, size // HIGHLIGHT_CELL), size, device)
    rarest = uniform(*HIGHLIGHT_RAREST, batch, 1, 1, 1, device=device)
    lit = (planes.mean(1, keepdim=True) * 4).clamp(0, 1)  # none on the black border
    alpha = ((spots - rarest) * 12).clamp(0, 1) * lit
    alpha = alpha * chosen(share, batch, 1, 1, 1, device=device)
    return planes + (1 - planes) * alpha


def _noise_map(batch: int, cells: int, size: int, device: torch.device) -> Tensor:
    """Smooth noise (B, 1, size, size), about 0..1."""
    noise = torch.rand(batch, 1, cells, cells, device=device)
    return F.interpolate(noise, (size, size), mode="bicubic", align_corners=False)


def blur(planes: Tensor, share: float) -> Tensor:
    """Out of focus or moved: a Gaussian of each picture's own width, length and direction."""
    batch, _, size, _ = planes.shape
    device = planes.device
    reach = max(2, size // BLUR_REACH)
    taken = chosen(share, batch, 1, 1, device=device)
    sigmas = [uniform(0, BLUR_SIGMA * reach, batch, 1, 1, device=device) for _ in range(2)]
    along, across = (sigma * taken + 0.1 for sigma in sigmas)  # 0.1 of a pixel: the identity
    angle = uniform(0, math.pi, batch, 1, 1, device=device)
    line = torch.arange(-reach, reach + 1, device=device)
    x, y = line[None, None], line[None, :, None]
    cos, sin = torch.cos(angle), torch.sin(angle)
    exponent = ((x * cos + y * sin) / along) ** 2 + ((y * cos - x * sin) / across) ** 2
    kernel = torch.softmax(-exponent.flatten(1) / 2, 1).view(batch, 1, *exponent.shape[1:])
    flat = F.pad(planes, (reach,) * 4, mode="replicate").flatten(0, 1)[None]
    kernel = kernel.repeat_interleave(3, 0)
    return F.conv2d(flat, kernel, groups=3 * batch)[0].view_as(planes)


def coarsen(planes: Tensor, share: float) -> Tensor:
    """A camera of fewer pixels, or strong compression: blocks of 2 x 2 or 4 x 4 become one."""
    batch, device = planes.shape[0], planes.device
    for block in (2, 4):
        coarse = F.interpolate(F.avg_pool2d(planes, block), scale_factor=float(block))
        planes = planes + (coarse - planes) * chosen(share / 2, batch, 1, 1, 1, device=device)
    return planes


def noise(planes: Tensor, share: float) -> Tensor:
    """Of the camera, independent in each pixel and channel."""
    batch, device = planes.shape[0], planes.device
    sigma = uniform(*NOISE_SIGMA, batch, 1, 1, 1, device=device)
    sigma = sigma * chosen(share, batch, 1, 1, 1, device=device)
    return planes + torch.randn_like(planes) * sigma
