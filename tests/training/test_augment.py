from __future__ import annotations

import torch

from rwkv_edge.training.augment import BatchAugmenter


def test_picture_and_mask_move_together() -> None:
    """Each picture's bright half is its mask: after augmentation the mask still covers it."""
    torch.manual_seed(0)
    masks = torch.zeros(16, 64, 64, dtype=torch.uint8)
    masks[:, 16:48, 20:52] = 1
    images = masks[..., None].expand(-1, -1, -1, 3) * 160 + 60
    pixels, labels = BatchAugmenter()(images, masks, 64)
    assert pixels.dtype == torch.uint8
    assert labels.dtype == torch.int64
    assert not torch.equal(labels, masks.long())
    grey = pixels.float().mean(3)
    for picture, label in zip(grey, labels, strict=True):
        visible = picture > 0  # rotation brings in black corners
        inside = picture[(label == 1) & visible]
        outside = picture[(label == 0) & visible]
        if len(inside) > 50 and len(outside) > 50:
            assert inside.mean() > outside.mean() + 30


def test_labels_stay_labels_and_size_changes() -> None:
    torch.manual_seed(0)
    masks = torch.randint(0, 2, (4, 64, 64), dtype=torch.uint8)
    images = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8)
    pixels, labels = BatchAugmenter()(images, masks, 32)
    assert pixels.shape == (4, 32, 32, 3)
    assert labels.shape == (4, 32, 32)
    assert set(labels.unique().tolist()) <= {0, 1}


def test_same_seed_same_batch() -> None:
    images = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    masks = torch.zeros(3, 32, 32, dtype=torch.uint8)
    results = []
    for _ in range(2):
        torch.manual_seed(5)
        results.append(BatchAugmenter()(images, masks, 32)[0])
    assert torch.equal(*results)
