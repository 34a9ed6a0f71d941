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
        logits: (B, classes, H, W).
        target: (B, H, W) int64 class labels, 0 for background; 0 and 1 for one class.

    Returns:
        A float32 scalar.
    """
    logits = logits.float()
    classes = logits.shape[1]
    if classes == 1:
        foreground = target[:, None].float()
        pixel_loss = F.binary_cross_entropy_with_logits(logits, foreground)
        probability = to_probability(logits)
    else:
        foreground = F.one_hot(target, classes)[..., 1:].permute(0, 3, 1, 2).float()
        pixel_loss = F.cross_entropy(logits, target)
        probability = to_probability(logits)[:, 1:]
    overlap = (probability * foreground).sum((2, 3))
    total = probability.sum((2, 3)) + foreground.sum((2, 3))
    dice = (2 * overlap + SMOOTH) / (total + SMOOTH)
    return pixel_loss + 1 - dice.mean()


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
