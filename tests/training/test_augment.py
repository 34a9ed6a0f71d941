from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rwkv_edge.models import create_model
from rwkv_edge.training.augment import SHARES, augment
from rwkv_edge.training.ema import WeightAverage
from rwkv_edge.training.geometry import INSET_SIDE
from rwkv_edge.training.losses import dice_bce_loss, to_planes


def test_picture_and_mask_move_together() -> None:
    """Each picture's bright half is its mask: after augmentation the mask still covers it."""
    torch.manual_seed(0)
    masks = torch.zeros(16, 64, 64, dtype=torch.uint8)
    masks[:, 16:48, 20:52] = 1
    images = masks[..., None].expand(-1, -1, -1, 3) * 160 + 60
    pixels, labels = augment(images, masks, 64)
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
    pixels, labels = augment(images, masks, 32)
    assert pixels.shape == (4, 32, 32, 3)
    assert labels.shape == (4, 32, 32)
    assert set(labels.unique().tolist()) <= {0, 1}


def test_same_seed_same_batch() -> None:
    images = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    masks = torch.zeros(3, 32, 32, dtype=torch.uint8)
    results = []
    for _ in range(2):
        torch.manual_seed(5)
        results.append(augment(images, masks, 32)[0])
    assert torch.equal(*results)


def test_classes_are_never_mixed() -> None:
    """Between background and class 2 there is no class 1: labels are not interpolated."""
    torch.manual_seed(0)
    masks = torch.zeros(16, 64, 64, dtype=torch.uint8)
    masks[:, 16:48, 16:48] = 2
    images = torch.zeros(16, 64, 64, 3, dtype=torch.uint8)
    assert set(augment(images, masks, 64)[1].unique().tolist()) == {0, 2}


def test_every_kind_of_change_happens_and_the_picture_survives() -> None:
    torch.manual_seed(0)
    images = torch.full((64, 32, 32, 3), 128, dtype=torch.uint8)
    pixels, _ = augment(images, torch.zeros(64, 32, 32, dtype=torch.uint8), 32)
    centre = pixels[:, 12:20, 12:20].float()
    assert centre.mean((1, 2, 3)).std() > 10  # brightness
    assert (centre.std((1, 2, 3)) > 3).float().mean() > 0.1  # noise
    assert 100 < centre.mean() < 156


class NothingFromTheHost(TorchDispatchMode):
    """Fails on what makes a GPU's host wait: reading a value, or copying between the two."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, torch.Tensor)]
        # numbers that Torch keeps as tensors on the host cost nothing
        devices = {x.device.type for x in tensors if x.ndim}
        assert len(devices) < 2, f"{function} moves data between host and device"
        return out


def test_the_host_waits_for_nothing() -> None:
    """A whole update on tensors without data: reading one would raise."""
    device = torch.device("meta")
    with NothingFromTheHost():
        images = torch.zeros(4, 64, 64, 3, dtype=torch.uint8, device=device)
        masks = torch.zeros(4, 64, 64, dtype=torch.uint8, device=device)
        pixels, target = augment(images, masks, 32)
    model = create_model("tiny").to(device)
    average = WeightAverage(model, 0.99)
    with NothingFromTheHost():
        loss = dice_bce_loss(model(pixels.permute(0, 3, 1, 2).float()), to_planes(target, 1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        average.next_rate()
        average.update()
    assert all(p.grad is not None for p in model.parameters())


def test_a_wait_of_the_host_would_be_found() -> None:
    picture = torch.zeros(4, device="meta")
    with pytest.raises(AssertionError, match="moves data"), NothingFromTheHost():
        torch.ones(4).to("meta")
    with pytest.raises(RuntimeError, match="meta"), NothingFromTheHost():
        float(picture.sum())


NOTHING = dict.fromkeys(SHARES, 0.0)


def batch(size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures of smooth colours and fine grain, each with its own square lesion."""
    torch.manual_seed(1)
    small = torch.rand(4, 3, 4, 4) * 120 + 60
    planes = torch.nn.functional.interpolate(small, (size, size), mode="bilinear")
    planes += torch.rand_like(planes) * 20
    masks = torch.zeros(4, size, size, dtype=torch.uint8)
    for index in range(4):
        masks[index, 8 + 8 * index : 24 + 8 * index, 20:40] = 1
    return planes.permute(0, 2, 3, 1).round().to(torch.uint8), masks


def test_without_ingredients_nothing_changes() -> None:
    images, masks = batch()
    pixels, labels = augment(images, masks, 64, NOTHING)
    assert (pixels.int() - images.int()).abs().max() <= 1  # blurred by a tenth of a pixel
    assert torch.equal(labels, masks.long())


@pytest.mark.parametrize("name", SHARES)
def test_each_ingredient_changes_its_share(name: str) -> None:
    images, masks = batch()
    torch.manual_seed(0)
    pixels, labels = augment(images, masks, 64, NOTHING | {name: 1.0})
    changed = (pixels.int() - images.int()).abs().amax((1, 2, 3)) > 1
    assert changed.sum() >= 2  # a flip may miss a picture
    if name not in ("flip", "affine", "elastic", "paste", "inset", "view"):
        assert torch.equal(labels, masks.long()), "looks must not move the mask"


def test_a_pasted_lesion_brings_its_label_and_its_texture() -> None:
    images, masks = batch()
    images[1:3, ..., 1] = (torch.arange(64) % 2 * 80).to(torch.uint8)  # the donors are striped
    torch.manual_seed(0)
    pixels, labels = augment(images, masks, 64, NOTHING | {"paste": 1.0})
    assert torch.equal(labels, ((masks > 0) | (masks.roll(1, 0) > 0)).long())
    core = pixels[2, 20:28, 24:36, 1].float()  # of the lesion that came from picture 1
    assert core.diff(dim=1).abs().mean() > 60
    far = pixels[:, 60:].int() - images[:, 60:].int()
    assert far.abs().max() <= 1


def test_no_lesion_is_left_where_another_picture_or_the_border_is() -> None:
    images, masks = batch()
    torch.manual_seed(0)
    pixels, labels = augment(images, torch.ones_like(masks), 64, NOTHING | {"view": 1.0})
    outside = pixels.amax(3) == 0
    assert outside.any()
    assert torch.equal(labels == 0, outside)
    torch.manual_seed(0)
    pixels, labels = augment(images, torch.ones_like(masks), 64, NOTHING | {"inset": 1.0})
    shares = (labels == 0).float().mean((1, 2))
    low, high = INSET_SIDE
    assert bool(((shares > (low - 0.05) ** 2) & (shares < (high + 0.05) ** 2)).all())
    kept = (pixels.int() - images.int()).abs().amax(3)[labels == 1]
    assert kept.max() <= 1
