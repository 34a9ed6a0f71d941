"""The pictures of a run, as uint8, where the training step can reach them fastest."""

from __future__ import annotations

import torch
from torch import Tensor

from rwkv_edge.preprocess import UInt8Array

RESIDENT_SHARE = 0.5
"""Of the device's free memory: what pictures may take of it to live there."""


class Pictures:
    """Images and masks, kept on the device if they fit, else on the host.

    Args:
        images: (N, H, W, 3) uint8 BGR.
        masks: (N, H, W) uint8 class labels.
        device: where batches are wanted.
    """

    def __init__(self, images: UInt8Array, masks: UInt8Array, device: torch.device) -> None:
        self.images, self.masks = torch.from_numpy(images), torch.from_numpy(masks)
        self.device = device
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            resident = self.images.nbytes + self.masks.nbytes < RESIDENT_SHARE * free
            keep = device if resident else torch.device("cpu")
            self.images, self.masks = self.images.to(keep), self.masks.to(keep)

    def __len__(self) -> int:
        return len(self.images)

    def split(self, order: Tensor, size: int) -> list[Tensor]:
        """Cut an order of pictures into batches; it goes to where they are, once."""
        return list(order.to(self.images.device).split(size))

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return images and masks of a part of `split`, on the device."""
        images, masks = self.images[indices], self.masks[indices]
        if images.device.type == self.device.type:
            return images, masks
        return (
            images.pin_memory().to(self.device, non_blocking=True),
            masks.pin_memory().to(self.device, non_blocking=True),
        )
