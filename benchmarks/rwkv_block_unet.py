"""What one RWKVBlock does for a U-Net: the baseline with and without it, trained alike.

    python benchmarks/rwkv_block_unet.py --images 400 --steps 600 --seeds 3 --json block.json

Both train on the same rendered images in the same order and are compared on other rendered ones, so
that no data set is needed. Rendered polyps are easier than real ones: this shows how to add the
block and that it learns, not what it is worth on your data; for that, train on your data.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from torch import Tensor, nn

from rwkv_edge.bench.timing import alternate, describe_machine, ratio_interval
from rwkv_edge.config import UNetSize
from rwkv_edge.data.synth import render_image
from rwkv_edge.evaluation.bootstrap import mean_interval, permutation_p
from rwkv_edge.models import RWKVBlock, Segmenter
from rwkv_edge.models.unet import DEPTH, UNet
from rwkv_edge.training.losses import dice_bce_loss, image_dice, to_planes

TEST_SEED = 1_000_000
"""Rendered from seeds that training never sees."""


def make_unet(width: int, with_block: bool) -> UNet:
    model = UNet(UNetSize(width))
    if with_block:  # the whole of the change
        bottleneck = model.encoder[-1]
        model.encoder[-1] = nn.Sequential(bottleneck, RWKVBlock(width * 2**DEPTH))
    return model


def render(count: int, first_seed: int, side: int) -> tuple[Tensor, Tensor]:
    frames = [render_image(first_seed + index, (side, side)) for index in range(count)]
    images = torch.from_numpy(np.stack([frame.image for frame in frames]))
    return images, torch.from_numpy(np.stack([frame.mask > 0 for frame in frames])).long()


def train(model: UNet, data: tuple[Tensor, Tensor], steps: int, batch: int, seed: int) -> None:
    images, masks = data
    segmenter = Segmenter(model).train()
    rate = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(rate, 1e-3, steps)
    order = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = torch.randint(len(images), (batch,), generator=order)
        pixels, target = images[chosen], masks[chosen]
        if torch.rand((), generator=order) < 0.5:
            pixels, target = pixels.flip(2), target.flip(2)
        loss = dice_bce_loss(model(segmenter.normalise(pixels)), to_planes(target, 1))
        rate.zero_grad()
        loss.backward()
        rate.step()
        schedule.step()


@torch.inference_mode()
def test(model: UNet, data: tuple[Tensor, Tensor], batch: int) -> list[float]:
    segmenter = Segmenter(model.eval())
    scores = [
        image_dice(model(segmenter.normalise(images)), masks)
        for images, masks in zip(*(part.split(batch) for part in data), strict=True)
    ]
    return torch.cat(scores).tolist()


def latency(models: dict[str, UNet], side: int, rounds: int) -> dict[str, object]:
    x = torch.randn(1, 3, side, side)

    def caller(model: UNet) -> Callable[[], Tensor]:
        return torch.inference_mode()(lambda: model.eval()(x))

    times = alternate({name: caller(model) for name, model in models.items()}, rounds)
    with_block, without = (times[name] for name in ("with the block", "U-Net"))
    ratio = ratio_interval(with_block, without, paired=True)
    print(f"latency with the block, by that without: {ratio} (95 % interval), Torch eager")
    return vars(ratio)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=400, help="to train on")
    parser.add_argument("--test-images", type=int, default=100)
    parser.add_argument("--side", type=int, default=96, help="of the images, a multiple of 16")
    parser.add_argument("--width", type=int, default=8, help="of the U-Net; 32 is the baseline")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each")
    parser.add_argument("--rounds", type=int, default=50, help="of the timing")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    training = render(options.images, 0, options.side)
    testing = render(options.test_images, TEST_SEED, options.side)
    scores: dict[str, list[list[float]]] = {"U-Net": [], "with the block": []}
    for seed in range(options.seeds):
        models = {}
        for name, runs in scores.items():
            torch.manual_seed(seed)
            models[name] = make_unet(options.width, name != "U-Net")
            started = time.perf_counter()
            train(models[name], training, options.steps, options.batch, seed)
            runs.append(test(models[name], testing, options.batch))
            seconds = time.perf_counter() - started
            size = sum(parameter.numel() for parameter in models[name].parameters()) / 1e6
            dice = f"Dice {fmean(runs[-1]):.4f}"
            print(f"seed {seed}, {name}: {dice}; {size:.2f} M, {seconds:.0f} s", flush=True)
    means = {name: np.mean(runs, axis=0) for name, runs in scores.items()}  # of an image's runs
    difference = means["with the block"] - means["U-Net"]
    found, p = mean_interval(difference), permutation_p(difference)
    print(f"Dice with the block minus without: {found} (95 % interval), p = {p:.3f}")
    ratio = latency(models, options.side, options.rounds)
    if options.json:
        content = {
            "machine": describe_machine("torch"),
            "options": {key: str(value) for key, value in vars(options).items()},
            "dice": {name: [fmean(run) for run in runs] for name, runs in scores.items()},
            "difference": vars(found),
            "p": p,
            "latency_ratio": ratio,
        }
        options.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
