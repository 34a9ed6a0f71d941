"""One training step of a network on a GPU: images a second of each way, the operators, the stalls.

    python benchmarks/gpu/profile_step.py --variant tiny --batch 64 --output gpu-results

Ways are the plain step, --cuda-graph, --compile and both. Each must first begin with the plain
one's losses, from the same weights, and then learn; one that does not, or fails, is not timed.
"""

from __future__ import annotations

import dataclasses
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measure import make_parser, open_device, wait, write_report
from model import operators

from rwkv_edge.models import create_model
from rwkv_edge.ops import extension
from rwkv_edge.training import TrainSettings
from rwkv_edge.training.ema import WeightAverage
from rwkv_edge.training.step import WARM_UP, TrainingStep, make_optimizer

WAYS = {
    "plain": {},
    "cuda graph": {"cuda_graph": True},
    "compile": {"compile": True},
    "compile, cuda graph": {"compile": True, "cuda_graph": True},
}
LOSS_TOLERANCE = 0.02
LEARNING_STEPS = 30
"""After the first ones, which a captured step takes uncaptured."""


def make_step(settings: TrainSettings, device: torch.device) -> TrainingStep:
    """What `rwkv-edge train` makes of these settings."""
    torch.manual_seed(0)
    model = create_model(settings.variant).to(device).to(memory_format=torch.channels_last).train()
    average = WeightAverage(model, settings.ema_decay)
    optimizer = make_optimizer(model, settings, device)
    if settings.compile:
        model.compile(dynamic=False)
    return TrainingStep(model, average, optimizer, settings, device)


def make_call(step: TrainingStep, images: torch.Tensor, size: int) -> Callable[[], torch.Tensor]:
    """A step on a batch drawn from the resident pictures."""
    masks = (images[..., 0] > 128).to(torch.uint8)
    batch = step.settings.batch

    def call() -> torch.Tensor:
        indices = torch.randint(len(images), (batch,), device=images.device)
        return step(images[indices], masks[indices], size, step.settings.lr)

    return call


def check_losses(losses: list[float], expected: list[float]) -> None:
    off = max(abs(a / b - 1) for a, b in zip(losses, expected, strict=True))
    if not off < LOSS_TOLERANCE:
        raise ValueError(f"its losses differ from the plain step's by {off:.1%}; not timed")


def check_learning(first: float, losses: list[float]) -> None:
    last = sum(losses[-5:]) / 5
    if not last < first:
        raise ValueError(f"the loss went from {first:.3f} to {last:.3f}; not timed")
    if len(set(losses)) < len(losses):
        raise ValueError("steps repeat the same loss: no new random numbers; not timed")


def count_stalls(call: Callable[[], torch.Tensor]) -> list[str]:
    """Where the host waits for the device in a step, by Torch's own detector."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return [f"{w.filename}:{w.lineno}" for w in caught if "synchroniz" in str(w.message)]


def time_way(
    call: Callable[[], torch.Tensor], device: torch.device, steps: int, batch: int
) -> dict[str, float]:
    """Images a second over many queued steps, and the share of that time the host was busy."""
    wait(device)
    begun = time.perf_counter()
    for _ in range(steps):
        call()
    queued = time.perf_counter() - begun
    wait(device)
    took = time.perf_counter() - begun
    return {
        "images/s": batch * steps / took,
        "step ms": took / steps * 1e3,
        "host queueing": queued / took,
    }


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--variant", default="tiny")
    parser.add_argument("--imgsz", type=int, default=256)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    options = parser.parse_args()
    device = open_device(options.dry_run)
    ways, size, batch, steps = options.ways, options.imgsz, options.batch, options.steps
    if options.dry_run:
        ways, size, batch, steps = ["plain"], 32, 2, 2
    else:
        print(f"bi-WKV: {extension.describe(device)}")
        torch.backends.cudnn.benchmark = True
    settings = TrainSettings(Path(), options.variant, imgsz=size, batch=batch, amp=True)
    images = torch.randint(0, 256, (256, size, size, 3), dtype=torch.uint8, device=device)
    rows: list[dict[str, Any]] = []
    expected: list[float] = []
    stalls: list[str] = []
    hot: list[dict[str, Any]] = []
    for name in ways:
        row: dict[str, Any] = {"variant": options.variant, "imgsz": size, "batch": batch}
        try:
            step = make_step(dataclasses.replace(settings, **WAYS[name]), device)
            call = make_call(step, images, size)
            losses = [float(call()) for _ in range(WARM_UP)]
            expected = expected or losses
            check_losses(losses, expected)
            if device.type == "cuda":
                check_learning(losses[0], [float(call()) for _ in range(LEARNING_STEPS)])
                torch.cuda.reset_peak_memory_stats()
            row |= {"way": name, **time_way(call, device, steps, batch)}
            if device.type == "cuda":
                row["peak GiB"] = torch.cuda.max_memory_reserved() / 2**30
            if name == "plain":
                hot = operators(call, device)
                stalls = count_stalls(call) if device.type == "cuda" else []
        except Exception as error:  # one way that fails must not hide the others
            row |= {"way": name, "error": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
        rows.append(row)
    print("\nthe plain step's operators")
    for operator in hot:
        print(f"{operator['share']:6.1%} {operator['ms']:9.3f} ms  {operator['operator']}")
    print(f"host stalls in a plain step: {len(stalls)} {stalls or ''}")
    write_report(options, f"step-{options.variant}", rows, operators=hot, stalls=stalls)
    if all("error" in row for row in rows):
        sys.exit("error: no way to train works; see the table")


if __name__ == "__main__":
    main()
