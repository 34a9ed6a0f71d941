"""A few updates of a U-Net by one process or, under torchrun, by several, to be compared.

In float64, since the order of sums decides on which side of its kink a ReLU is; and with pictures
that are not augmented, since processes do that differently.
"""

from __future__ import annotations

import sys
from pathlib import Path
from unittest import mock

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rwkv_edge.cli.processes import leave
from rwkv_edge.models import create_model
from rwkv_edge.training import Processes, TrainSettings
from rwkv_edge.training.augment import resize
from rwkv_edge.training.ema import WeightAverage
from rwkv_edge.training.step import TrainingStep, make_optimizer

SIZE, BATCH, UPDATES = 32, 8, 3
DEVICE = torch.device("cpu")


def keep_pictures(
    images: Tensor, masks: Tensor, size: int, shares: object
) -> tuple[Tensor, Tensor]:
    planes, labels = resize(images, masks, size)
    return planes.to(torch.uint8).permute(0, 2, 3, 1), labels[:, 0].long()


def update(processes: Processes, accumulate: int) -> dict[str, Tensor]:
    """Train; where batches are cut into parts, the normalisation is frozen, since it sees parts."""
    torch.manual_seed(0)
    settings = TrainSettings(Path(), variant="unet", batch=BATCH, accumulate=accumulate)
    model = create_model("unet").double().train()
    if accumulate > 1:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    optimizer = make_optimizer(model, settings, DEVICE)
    average = WeightAverage(model, settings.ema_decay)
    step = TrainingStep(model, average, optimizer, settings, DEVICE, processes)
    step.segmenter.double()
    images = torch.randint(0, 256, (BATCH, SIZE, SIZE, 3), dtype=torch.uint8)
    masks = (images[..., 0] > 128).to(torch.uint8)
    share = processes.share(torch.arange(BATCH))
    losses = []
    with mock.patch("rwkv_edge.training.step.augment", keep_pictures):
        for number in range(UPDATES):
            # the first one leaves the weights: AdamW makes whole steps of the smallest differences
            loss = step(images[share], masks[share], SIZE, 1e-4 if number else 0.0)
            losses.append(float(processes.sum(loss)) / processes.count)
            if not number:
                gradients = {n: p.grad.clone() for n, p in model.named_parameters()}
                statistics = {n: b.clone() for n, b in model.named_buffers()}
    return {"losses": torch.tensor(losses), **gradients, **statistics}


def main(folder: Path) -> None:
    processes = Processes.of_environment()
    with processes.together(DEVICE):
        for accumulate in (1, 2):
            result = update(processes, accumulate)
            save_file(result, folder / f"{accumulate}-{processes.rank}.safetensors")
    leave(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
