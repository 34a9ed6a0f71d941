"""Teachers: larger networks whose probabilities a small one learns beside the labels.

Distillation (Hinton et al., arXiv 1503.02531) as function matching (Beyer et al., CVPR 2022): the
teacher sees the very picture that the student sees, augmentation included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from rwkv_edge.errors import UsageError
from rwkv_edge.preprocess import FloatArray, UInt8Array

Teacher = Callable[[UInt8Array], FloatArray]
"""From (h, w, 3) uint8 BGR to (planes, h, w) float32 probabilities."""


def check_teachers(names: Sequence[str], teachers: Sequence[Teacher], planes: int) -> None:
    """Ask each teacher about a black picture.

    Raises:
        UsageError: one of them tells other classes apart than the data set.
    """
    for name, teacher in zip(names, teachers, strict=True):
        classes = len(teacher(np.zeros((64, 64, 3), np.uint8)))
        if classes != planes:
            raise UsageError(
                f"--teacher {name}: gives {classes} classes, the data set has {planes}"
            )


def teach(teachers: Sequence[Teacher], pixels: Tensor, wanted: Tensor, share: float) -> Tensor:
    """Move labels towards what the teachers, on average, see.

    Args:
        teachers: one or more; they run on the host, picture by picture.
        pixels: (B, H, W, 3) uint8 BGR.
        wanted: (B, planes, H, W) float32 labels, as `to_planes` makes them.
        share: of the teachers, 0..1; the labels keep the rest.

    Returns:
        (B, planes, H, W) float32, 0..1.
    """
    images = pixels.cpu().numpy()
    seen = [np.stack([teacher(image) for image in images]) for teacher in teachers]
    mean = torch.from_numpy(np.mean(seen, axis=0, dtype=np.float32))
    return wanted.lerp(mean.to(wanted.device), share)
