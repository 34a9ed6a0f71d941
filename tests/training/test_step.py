from __future__ import annotations

import copy
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from rwkv_edge.models import create_model
from rwkv_edge.training import TrainSettings
from rwkv_edge.training.ema import WeightAverage
from rwkv_edge.training.pictures import Pictures
from rwkv_edge.training.step import TrainingStep, make_optimizer


def make_step(device: str, **changes: object) -> TrainingStep:
    torch.manual_seed(0)
    settings = TrainSettings(Path(), **changes)  # type: ignore[arg-type]
    model = create_model(settings.variant).to(device).train()
    optimizer = make_optimizer(model, settings, torch.device(device))
    average = WeightAverage(model, settings.ema_decay)
    return TrainingStep(model, average, optimizer, settings, torch.device(device))


def losses(step: TrainingStep, steps: int, batch: int = 4) -> list[float]:
    images = torch.randint(0, 256, (batch, 32, 32, 3), dtype=torch.uint8, device=step.device)
    masks = (images[..., 0] > 128).to(torch.uint8)
    return [float(step(images, masks, 32, 1e-3)) for _ in range(steps)]


def test_the_average_is_the_formula() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    average = WeightAverage(model, decay=0.9)
    expected = copy.deepcopy(model.state_dict())
    for update in range(1, 101):
        model(torch.randn(2, 3, 4, 4))
        with torch.no_grad():
            model[0].weight.add_(torch.randn_like(model[0].weight))
        average.next_rate()
        average.update()
        decay = min(0.9, (1 + update) / (10 + update))
        for name, theirs in model.state_dict().items():
            if theirs.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * theirs
    for name, ours in average.model.state_dict().items():
        if ours.is_floating_point():
            torch.testing.assert_close(ours, expected[name])
    assert average.model[1].num_batches_tracked == 100


def test_the_learning_rate_is_the_one_given() -> None:
    step = make_step("cpu", variant="unet")
    before = copy.deepcopy(step.model.state_dict())
    images = torch.zeros(2, 32, 32, 3, dtype=torch.uint8)
    step(images, images[..., 0], 32, 0.0)
    after = dict(step.model.named_parameters())
    assert all(torch.equal(before[name], value) for name, value in after.items())
    step(images, images[..., 0], 32, 1e-3)
    assert not all(torch.equal(before[name], value) for name, value in after.items())


def test_batches_of_pictures() -> None:
    images = np.arange(5 * 4 * 4 * 3, dtype=np.uint8).reshape(5, 4, 4, 3)
    pictures = Pictures(images, images[..., 0], torch.device("cpu"))
    parts = pictures.split(torch.tensor([4, 0, 2]), 2)
    assert [len(part) for part in parts] == [2, 1]
    got = pictures.batch(parts[0])
    assert np.array_equal(got[0].numpy(), images[[4, 0]])
    assert np.array_equal(got[1].numpy(), images[[4, 0], ..., 0])


@pytest.mark.gpu
@pytest.mark.parametrize("variant", ["tiny", "unet"])
def test_gpu_a_captured_step_is_the_plain_one(torch_gpu: None, variant: str) -> None:
    plain = losses(make_step("cuda", variant=variant), 8)
    captured = losses(make_step("cuda", variant=variant, cuda_graph=True), 8)
    # the random numbers differ once captured; the course of the loss must not
    assert captured[:3] == pytest.approx(plain[:3], rel=1e-3)
    assert captured[-1] < captured[0]
    assert len(set(captured[4:])) == 4, "a replay must draw new random numbers"


@pytest.mark.gpu
def test_gpu_the_host_never_waits(torch_gpu: None) -> None:
    step = make_step("cuda", amp=True)
    images = torch.zeros(4, 32, 32, 3, dtype=torch.uint8, device="cuda")
    masks = images[..., 0].clone()
    for _ in range(2):
        step(images, masks, 32, 1e-3)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            step(images, masks, 32, 1e-3)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert [str(w.message) for w in caught if "synchroniz" in str(w.message)] == []


@pytest.mark.gpu
def test_gpu_pictures_stay_on_the_device(torch_gpu: None) -> None:
    images = np.zeros((5, 4, 4, 3), np.uint8)
    pictures = Pictures(images, images[..., 0], torch.device("cuda"))
    assert pictures.images.is_cuda
    assert all(x.is_cuda for x in pictures.batch(pictures.split(torch.arange(5), 2)[0]))


def test_accumulated_parts_update_as_the_whole_batch_does() -> None:
    """With frozen normalisation, which would see the parts; a quarter of a float is exact."""

    def gradients(accumulate: int) -> dict[str, torch.Tensor]:
        step = make_step("cpu", variant="unet", accumulate=accumulate)
        step.model.double()
        step.segmenter.double()
        for module in step.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        torch.manual_seed(1)
        images = torch.randint(0, 256, (8, 32, 32, 3), dtype=torch.uint8)
        step(images, (images[..., 0] > 128).to(torch.uint8), 32, 0.0)
        return {name: p.grad for name, p in step.model.named_parameters()}

    whole, parts = gradients(1), gradients(4)
    for name, expected in whole.items():
        largest = float(expected.abs().max())
        torch.testing.assert_close(parts[name], expected, rtol=0, atol=1e-12 * largest)
        assert largest > 0
