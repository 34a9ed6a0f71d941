"""The training loss: soft Dice of each image plus cross-entropy of each pixel."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from rwkv_edge.config import DEFAULT_CONFIDENCE
from rwkv_edge.models import to_probability

SMOOTH = 1.0
"""Pixels added above and below the fraction, so that an image without a lesion has a gradient."""


def dice_bce_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return (1 - Dice) + cross-entropy, averaged over the batch.

    Args:
        logits: (B, planes, H, W).
        target: the same, 0..1, as `to_planes` makes it; between 0 and 1 where a teacher doubts.

    Returns:
        A float32 scalar.
    """
    logits = logits.float()
    probability = to_probability(logits)
    if logits.shape[1] == 1:
        pixel_loss = F.binary_cross_entropy_with_logits(logits, target)
    else:
        pixel_loss = F.cross_entropy(logits, target)
        probability, target = probability[:, 1:], target[:, 1:]
    # of 0 and 1 the product; in between only this one is greatest where both are equal
    overlap = torch.minimum(probability, target).sum((2, 3))
    total = probability.sum((2, 3)) + target.sum((2, 3))
    dice = (2 * overlap + SMOOTH) / (total + SMOOTH)
    return pixel_loss + 1 - dice.mean()


def to_planes(labels: Tensor, planes: int) -> Tensor:
    """(B, H, W) int64 class labels, 0 for background, to (B, planes, H, W) float32 of 0 and 1.

    One plane is the foreground; of several the first is the background.
    """
    if planes == 1:
        return labels[:, None].float()
    return F.one_hot(labels, planes).permute(0, 3, 1, 2).float()


@torch.no_grad()
def image_dice(logits: Tensor, target: Tensor, confidence: float = DEFAULT_CONFIDENCE) -> Tensor:
    """Return the Dice of each image's foreground, (B,) float32; 1 where both masks are empty."""
    probability = to_probability(logits.float())
    if logits.shape[1] == 1:
        predicted = (probability[:, 0] >= confidence).long()
    else:
        predicted = probability.argmax(1)
    hit = ((predicted == target) & (target > 0)).sum((1, 2)).float()
    total = ((predicted > 0).sum((1, 2)) + (target > 0).sum((1, 2))).float()
    return torch.where(total > 0, 2 * hit / total.clamp(min=1), torch.ones_like(total))
