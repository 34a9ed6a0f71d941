"""Augmentation of where things are: camera turns, tissue bends, pictures meet; masks go along."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

SCALE, SHEAR, SHIFT = (0.65, 1.5), math.radians(8), 0.2
"""Zoom; largest shear; largest shift in halves of the image."""
ELASTIC_STEP, ELASTIC_SHARE = 16, 0.015
"""Pixels between control points; standard deviation in halves of the image."""
INSET_SIDE = (0.2, 0.4)
VIEW_RADIUS, VIEW_CENTRE, CUT_CORNERS = (0.75, 1.15), 0.1, 0.7
"""Radius and shift in halves of the image; 1 would cut the corners of a square to a diamond."""
EDGE = 5
"""Pixels over which a pasted lesion fades into its new surroundings."""


def uniform(low: float, high: float, *shape: int, device: torch.device) -> Tensor:
    """Return random numbers from `low` to `high`."""
    return torch.rand(*shape, device=device) * (high - low) + low


def chosen(share: float, *shape: int, device: torch.device) -> Tensor:
    """Return ones for a share of the batch, zeros for the rest."""
    return (torch.rand(*shape, device=device) < share).float()


def move(
    planes: Tensor, labels: Tensor, flip: float, affine: float, elastic: float
) -> tuple[Tensor, Tensor]:
    """Mirror, turn, zoom, shear, shift and bend.

    Args:
        planes: (B, 3, S, S).
        labels: (B, 1, S, S) float, whole numbers.
        flip: share of the pictures mirrored, in each direction.
        affine: share of the pictures turned, zoomed, sheared and shifted.
        elastic: share of the pictures bent.

    Returns:
        The same, new; what comes in from outside is 0 in both.
    """
    grid = _sampling_grid(planes.shape[0], planes.shape[2], planes.device, flip, affine, elastic)
    planes = F.grid_sample(planes, grid, "bilinear", align_corners=False)
    return planes, F.grid_sample(labels, grid, "nearest", align_corners=False)


def _sampling_grid(
    batch: int, size: int, device: torch.device, flip: float, affine: float, elastic: float
) -> Tensor:
    """Where each pixel comes from, (B, size, size, 2) in -1..1."""

    def random(low: float, high: float) -> Tensor:
        return uniform(low, high, batch, device=device)

    moved = chosen(affine, batch, device=device)
    angle = random(-math.pi, math.pi) * moved
    zoom = torch.exp(random(math.log(SCALE[0]), math.log(SCALE[1])) * moved)
    shear = torch.tan(random(-SHEAR, SHEAR) * moved)
    flips = [1 - 2 * chosen(flip, batch, device=device) for _ in range(2)]
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    shifts = [random(-SHIFT, SHIFT) * moved for _ in range(2)]
    rows = [
        (cos * flips[0], (cos * shear - sin) * flips[0], shifts[0]),
        (sin * flips[1], (sin * shear + cos) * flips[1], shifts[1]),
    ]
    matrix = torch.stack([torch.stack(row, 1) for row in rows], 1)
    grid = F.affine_grid(matrix, [batch, 1, size, size], align_corners=False)
    points = max(2, size // ELASTIC_STEP)
    bend = torch.randn(batch, 2, points, points, device=device) * ELASTIC_SHARE
    bend = bend * chosen(elastic, batch, 1, 1, 1, device=device)
    bend = F.interpolate(bend, (size, size), mode="bicubic", align_corners=False)
    return grid + bend.permute(0, 2, 3, 1)


def paste(planes: Tensor, labels: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Copy the lesions of the batch's next picture to where they are, in the colours found there.

    Simple copy-paste (Ghiasi et al., CVPR 2021); arguments as of `move`.
    """
    batch, device = planes.shape[0], planes.device
    taken = chosen(share, batch, 1, 1, 1, device=device)
    other, theirs = planes.roll(1, 0), labels.roll(1, 0)
    lesion = (theirs > 0).float() * taken
    alpha = F.avg_pool2d(lesion, EDGE, 1, EDGE // 2)
    other = other + (planes - other).mean((2, 3), keepdim=True)
    return planes + (other - planes) * alpha, torch.where(lesion > 0, theirs, labels)


def inset(planes: Tensor, labels: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Show another picture in a corner, where no lesion counts; arguments as of `move`."""
    batch, size, device = planes.shape[0], planes.shape[2], planes.device
    side = uniform(*INSET_SIDE, batch, 1, 1, device=device)
    x, y = _coordinates(size, device)  # -1..1
    inside = torch.ones(batch, size, size, device=device)
    places = []
    for along in (x, y):
        far = chosen(0.5, batch, 1, 1, device=device)
        start = far * (2 - 2 * side) - 1
        place = (along - start) / side - 1  # -1..1 within the inset
        inside = inside * (place.abs() <= 1)
        places.append(place.expand(batch, size, size))
    small = F.grid_sample(
        planes.roll(1, 0), torch.stack(places, -1), "bilinear", align_corners=False
    )
    inside = inside[:, None] * chosen(share, batch, 1, 1, 1, device=device)
    return planes + (small - planes) * inside, labels * (1 - inside)


def mask_view(planes: Tensor, labels: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Blacken what lies outside a circle or a square with cut corners, as endoscopes show it."""
    batch, device = planes.shape[0], planes.device
    x, y = (
        (along - uniform(-VIEW_CENTRE, VIEW_CENTRE, batch, 1, 1, device=device)).abs()
        for along in _coordinates(planes.shape[2], device)
    )
    circle = torch.sqrt(x * x + y * y)
    cut = torch.maximum(torch.maximum(x, y), (x + y) * CUT_CORNERS)
    distance = torch.where(chosen(0.5, batch, 1, 1, device=device) > 0, circle, cut)
    outside = (distance > uniform(*VIEW_RADIUS, batch, 1, 1, device=device)).float()[:, None]
    seen = 1 - outside * chosen(share, batch, 1, 1, 1, device=device)
    return planes * seen, labels * seen


def _coordinates(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return x (1, 1, size) and y (1, size, 1) of the pixels' centres, in -1..1."""
    line = (torch.arange(size, device=device) * 2 + 1) / size - 1
    return line[None, None], line[None, :, None]
