from __future__ import annotations

import math

import pytest
import torch

from rwkv_edge.training.losses import dice_bce_loss, image_dice, to_planes


def test_binary_loss_by_hand() -> None:
    logits = torch.zeros(1, 1, 2, 2)  # probability one half everywhere
    target = torch.tensor([[[1, 0], [0, 0]]])
    dice = (2 * 0.5 + 1) / (2.0 + 1.0 + 1)
    assert float(dice_bce_loss(logits, to_planes(target, logits.shape[1]))) == pytest.approx(
        math.log(2) + 1 - dice
    )


def test_several_classes_by_hand() -> None:
    logits = torch.zeros(1, 3, 1, 2)
    target = torch.tensor([[[0, 2]]])
    first = (0 + 1) / (2 / 3 + 0 + 1)
    second = (2 / 3 + 1) / (2 / 3 + 1 + 1)
    expected = math.log(3) + 1 - (first + second) / 2
    assert float(dice_bce_loss(logits, to_planes(target, logits.shape[1]))) == pytest.approx(
        expected, rel=1e-6
    )


@pytest.mark.parametrize("classes", [1, 3])
def test_perfect_logits_have_almost_no_loss(classes: int) -> None:
    target = torch.randint(
        0, max(2, classes), (2, 8, 8), generator=torch.Generator().manual_seed(0)
    )
    if classes == 1:
        logits = (target[:, None].float() * 2 - 1) * 30
    else:
        logits = torch.nn.functional.one_hot(target, classes).permute(0, 3, 1, 2) * 30.0
    assert float(dice_bce_loss(logits, to_planes(target, logits.shape[1]))) < 1e-4
    assert image_dice(logits, target).tolist() == [1.0, 1.0]


def test_image_dice_counts_each_image() -> None:
    target = torch.zeros(3, 2, 2, dtype=torch.long)
    target[0, 0] = 1
    target[1, 0, 0] = 1
    logits = torch.full((3, 1, 2, 2), -9.0)
    logits[0, 0, 0] = 9.0
    logits[1, 0, 0] = 9.0
    assert image_dice(logits, target).tolist() == pytest.approx([1.0, 2 / 3, 1.0])


def test_wrong_class_is_not_a_hit() -> None:
    target = torch.full((1, 1, 2), 2)
    logits = torch.zeros(1, 3, 1, 2)
    logits[:, 1] = 5.0
    assert image_dice(logits, target).tolist() == [0.0]
