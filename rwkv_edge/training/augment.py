"""Augmentation of whole batches on the device (kornia), made for endoscopes.

Every orientation of the camera is as good as another, hence full rotation; light and colour differ
between light sources, cameras and patients; scopes blur, sharpen and add noise.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rwkv_edge.errors import MissingDependencyError


def build_augmentation() -> nn.Module:
    """Return a module from (images, masks) to both, augmented alike.

    Raises:
        MissingDependencyError: kornia is not installed.
    """
    try:
        import kornia.augmentation as K
    except ImportError as error:
        raise MissingDependencyError("kornia", "train", "training") from error
    return K.AugmentationSequential(
        K.RandomHorizontalFlip(p=0.5),
        K.RandomVerticalFlip(p=0.5),
        K.RandomAffine(
            degrees=180.0,
            translate=(0.1, 0.1),
            scale=(0.65, 1.5),
            shear=8.0,
            p=0.9,
            padding_mode="zeros",
        ),
        K.RandomElasticTransform((31, 31), sigma=(8.0, 8.0), alpha=(0.6, 0.6), p=0.2),
        K.ColorJitter(brightness=0.4, contrast=0.3, saturation=0.3, hue=0.03, p=0.9),
        K.RandomGaussianBlur((5, 5), (0.1, 1.5), p=0.15),
        K.RandomGaussianNoise(std=0.03, p=0.2),
        data_keys=["input", "mask"],
    )


class BatchAugmenter:
    """From stored uint8 pictures to a training batch."""

    def __init__(self) -> None:
        self.augmentation = build_augmentation()

    def __call__(self, images: Tensor, masks: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Resize and augment.

        Args:
            images: (B, H, W, 3) uint8 BGR.
            masks: (B, H, W) uint8 class labels.
            size: side of the result in pixels.

        Returns:
            (B, H', W', 3) uint8 BGR and (B, H', W') int64, the longer side `size`.
        """
        planes = (
            images.permute(0, 3, 1, 2).flip(1).float() / 255
        )  # RGB in 0..1 for kornia's colours
        labels = masks[:, None].float()
        if planes.shape[2] != size:
            planes = F.interpolate(planes, (size, size), mode="area")
            labels = F.interpolate(labels, (size, size), mode="nearest-exact")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*align_corners.*")
            planes, labels = self.augmentation(planes, labels)
        # kornia interpolates masks linearly between 0 and 1: rounding keeps the labels' meaning
        pixels = (planes.clamp(0, 1) * 255).round().to(torch.uint8).flip(1)
        return pixels.permute(0, 2, 3, 1), labels[:, 0].round().long()
