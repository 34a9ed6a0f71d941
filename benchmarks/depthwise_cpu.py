"""A training step on the CPU, with Torch's gradients of depthwise convolutions and with ours.

    OMP_NUM_THREADS=1 python benchmarks/depthwise_cpu.py --json depthwise_cpu.json

First each depthwise convolution of Tiny by itself, then whole steps of `rwkv-edge train --amp
--compile` without and with `training/depthwise.py`, in turns. Refuses to time gradients that differ
from Torch's.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from rwkv_edge.bench.timing import alternate, describe_machine, print_table, ratio, summarise
from rwkv_edge.memory import keep_freed_memory
from rwkv_edge.models import create_model
from rwkv_edge.training import TrainSettings
from rwkv_edge.training.depthwise import quicken_depthwise
from rwkv_edge.training.ema import WeightAverage
from rwkv_edge.training.step import TrainingStep, make_optimizer

CPU = torch.device("cpu")
TOLERANCE = 0.02
"""Of the largest gradient: both are summed from bfloat16 products and rounded to bfloat16."""
FORMS = ("ours", "Torch")


def layers(size: int, batch: int) -> dict[tuple[int, ...], tuple[nn.Conv2d, Tensor]]:
    """Return Tiny's depthwise convolutions with an input each, one of a kind."""
    found = {}

    def look(conv: nn.Conv2d, inputs: tuple[Tensor]) -> None:
        if conv.groups > 1:
            channels, side = inputs[0].shape[1], inputs[0].shape[2]
            x = torch.randn(batch, channels, side, side).bfloat16()
            found[channels, side, conv.kernel_size[0], conv.stride[0]] = (
                copy.deepcopy(conv).bfloat16(),
                x.contiguous(memory_format=torch.channels_last),
            )

    model = create_model("tiny").eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(look)  # type: ignore[arg-type]
    with torch.no_grad():
        model(torch.zeros(1, 3, size, size))
    for conv, _ in found.values():
        conv._forward_pre_hooks.clear()
    return found


def backward(conv: nn.Conv2d, x: Tensor) -> tuple[Tensor, ...]:
    leaf = x.detach().requires_grad_()
    y = conv(leaf)
    return torch.autograd.grad(y, (leaf, conv.weight), torch.ones_like(y) / y[0].numel() ** 0.5)


def time_layers(size: int, batch: int, rounds: int) -> list[dict[str, object]]:
    rows = []
    for (channels, side, kernel, stride), (conv, x) in layers(size, batch).items():
        quick = copy.deepcopy(conv)
        quicken_depthwise(quick)
        for ours, theirs in zip(backward(quick, x), backward(conv, x), strict=True):
            error = float((ours - theirs).abs().max() / theirs.abs().max())
            if not error < TOLERANCE:
                sys.exit(f"error: a gradient is off by {error:.1e}; not timed")
        calls = {"ours": partial(backward, quick, x), "Torch": partial(backward, conv, x)}
        times = alternate(calls, rounds)
        middle, low, high = ratio(times, *FORMS)
        ms = {name: row["p50_ms"] for name, row in summarise(times).items()}
        rows.append(
            {"channels": channels, "side": side, "kernel": kernel, "stride": stride, **ms}
            | {"ratio": middle, "low": low, "high": high}
        )
        print("  ".join(f"{k} {v:.3g}" for k, v in rows[-1].items()), flush=True)
    return rows


def make_step(quick: bool) -> TrainingStep:
    torch.manual_seed(0)
    settings = TrainSettings(Path(), amp=True, compile=True)
    model = create_model("tiny").to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    if quick:
        quicken_depthwise(model)
    average = WeightAverage(model, settings.ema_decay)
    optimizer = make_optimizer(model, settings, CPU)
    model.compile(dynamic=False)
    return TrainingStep(model, average, optimizer, settings, CPU)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--imgsz", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    keep_freed_memory()
    report: dict[str, object] = {"machine": describe_machine("torch"), **vars(options)}
    print(report["machine"], f"{torch.get_num_threads()} threads")
    report["layers"] = time_layers(options.imgsz, options.batch, options.rounds)

    images = torch.randint(0, 256, (options.batch, *[options.imgsz] * 2, 3), dtype=torch.uint8)
    masks = (images[..., 0] > 128).to(torch.uint8)
    steps = {"ours": make_step(True), "Torch": make_step(False)}
    calls = {n: partial(step, images, masks, options.imgsz, 1e-3) for n, step in steps.items()}
    times = alternate(calls, options.rounds)
    print(f"\na step of {options.batch} pictures of {options.imgsz} pixels")
    print_table(summarise(times))
    middle, low, high = ratio(times, *FORMS)
    print(f"ours takes {middle:.2f} of Torch's time ({low:.2f} to {high:.2f})")
    report |= {"step": summarise(times), "ratio": middle, "low": low, "high": high}
    if options.json:
        options.json.write_text(json.dumps(report, indent=2, default=str) + "\n")


if __name__ == "__main__":
    main()
