"""Linear against quadratic: bi-WKV beside softmax attention, over tokens and over the batch.

    python benchmarks/scaling.py --plot scaling.png --json scaling.json

One picture of SIDE pixels has (SIDE / 8)^2 tokens at the resolution of RWKV-UNet's third stage.
Both are Torch on the CPU, float32, of the same width; attention is Torch's fused
scaled_dot_product_attention over heads of 32 channels. That one never holds the whole matrix of
scores, so its memory is linear too, and less than that of our op in plain Torch. Memory is the peak
of the process above what the inputs take, each measured in a process of its own. Before anything is
timed, bi-WKV is compared with its float64 reference and attention with the softmax written out.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rwkv_edge.bench.timing import alternate, describe_machine, summarise
from rwkv_edge.memory import peak_bytes, reset_peak, resident_bytes
from rwkv_edge.ops import bi_wkv, bi_wkv_ref

STRIDE, HEAD = 8, 32
SIDES, BATCHES = (128, 256, 384, 512, 768, 1024), (1, 2, 4, 8)
BATCH_SIDE = 256
TOLERANCE = 1e-4
Row = dict[str, Any]
FORMS = ("bi-WKV", "softmax attention")


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention in heads of 32 channels; (B, T, C) each."""
    batch, tokens, channels = k.shape
    heads = [x.view(batch, tokens, channels // HEAD, HEAD).transpose(1, 2) for x in (q, k, v)]
    mixed = torch.nn.functional.scaled_dot_product_attention(*heads)
    return mixed.transpose(1, 2).reshape(batch, tokens, channels)


def attention_reference(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    batch, tokens, channels = k.shape
    heads = [
        x.double().view(batch, tokens, channels // HEAD, HEAD).transpose(1, 2) for x in (q, k, v)
    ]
    weights = torch.softmax(heads[0] @ heads[1].transpose(-1, -2) / HEAD**0.5, -1)
    return (weights @ heads[2]).transpose(1, 2).reshape(batch, tokens, channels)


def call_of(form: str, batch: int, tokens: int, channels: int) -> Callable[[], Tensor]:
    torch.manual_seed(0)
    q, k, v = (torch.randn(batch, tokens, channels) for _ in range(3))
    if form == "softmax attention":
        return partial(attention, q, k, v)
    decay = torch.linspace(-5, 3, channels) / tokens
    return partial(bi_wkv, decay, torch.randn(channels) / tokens, k, v)


def check(channels: int) -> None:
    """Refuse to time a form that is wrong."""
    ours, theirs = (call_of(form, 2, 96, channels) for form in FORMS)
    references = (bi_wkv_ref(*ours.args), attention_reference(*theirs.args))
    for form, call, expected in zip(FORMS, (ours, theirs), references, strict=True):
        error = float((call().double() - expected.double()).abs().max() / expected.abs().max())
        if not error < TOLERANCE:
            sys.exit(f"error: {form} is off by {error:.1e}; not timed")


def peak_mib(form: str, batch: int, tokens: int, channels: int, result: object) -> None:
    """Send the growth of a fresh process's peak memory by one call."""
    with torch.inference_mode():
        call_of(form, 1, 16, channels)()  # what Torch sets up once does not count
        call = call_of(form, batch, tokens, channels)
        reset_peak()
        before, _, peak = resident_bytes(), call(), peak_bytes()
    grown = None if before is None or peak is None else (peak - before) / (1 << 20)
    result.put(grown)  # type: ignore[attr-defined]


def memory_of(form: str, batch: int, tokens: int, channels: int) -> float:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=peak_mib, args=(form, batch, tokens, channels, queue))
    process.start()
    found: float | None = queue.get(timeout=300)
    process.join()
    if found is None:
        sys.exit("error: this system does not tell the memory of a process")
    return found


@torch.inference_mode()
def measure(batch: int, side: int, channels: int, rounds: int) -> list[Row]:
    tokens = (side // STRIDE) ** 2
    calls = {form: call_of(form, batch, tokens, channels) for form in FORMS}
    times = summarise(alternate(calls, rounds, warm_up=1))
    rows: list[Row] = []
    for form in FORMS:
        memory = memory_of(form, batch, tokens, channels)
        rows.append({"form": form, "side": side, "batch": batch, "tokens": tokens, "mib": memory})
        rows[-1] |= times[form]
        print(
            f"{side:5} px, {tokens:6} tokens, batch {batch}: {form:18} "
            f"{times[form]['p50_ms']:9.2f} ms  {memory:8.1f} MiB",
            flush=True,
        )
    return rows


def growth(rows: list[Row], form: str) -> float:
    """The exponent of latency over tokens, between the last two sizes."""
    a, b = [row for row in rows if row["form"] == form][-2:]
    return math.log(b["p50_ms"] / a["p50_ms"]) / math.log(b["tokens"] / a["tokens"])


def draw(path: Path, by_size: list[Row], by_batch: list[Row]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.5, 4), layout="constrained")
    time_axes, memory_axes, batch_axes = figure.subplots(1, 3)
    for form, colour in zip(FORMS, ("#0072B2", "#D55E00"), strict=True):
        sized = [row for row in by_size if row["form"] == form]
        batched = [row for row in by_batch if row["form"] == form]
        tokens = [row["tokens"] for row in sized]
        for axes, key in ((time_axes, "p50_ms"), (memory_axes, "mib")):
            axes.plot(tokens, [row[key] for row in sized], "o-", color=colour, label=form)
        spread = [[row[key] for row in sized] for key in ("p10_ms", "p90_ms")]
        time_axes.fill_between(tokens, *spread, color=colour, alpha=0.15)
        batch_axes.plot(
            [row["batch"] for row in batched],
            [row["p50_ms"] for row in batched],
            "o-",
            color=colour,
        )
    ticks = [row["tokens"] for row in by_size if row["form"] == FORMS[0]]
    sides = [row["side"] for row in by_size if row["form"] == FORMS[0]]
    for form, power, words in zip(FORMS, (1, 2), ("linear", "quadratic"), strict=True):
        end = [row["p50_ms"] for row in by_size if row["form"] == form][-1]
        line = [end * (count / ticks[-1]) ** power for count in ticks]
        time_axes.plot(ticks, line, ":", color="0.5", linewidth=1.2, zorder=0)
        half = len(ticks) // 2
        time_axes.annotate(
            words,
            (ticks[half], line[half]),
            xytext=(8, -10),
            textcoords="offset points",
            fontsize=8,
            color="0.4",
        )
    for axes in (time_axes, memory_axes):
        axes.set(xscale="log", yscale="log", xlabel="side of the picture in pixels")
        axes.set_xticks(ticks, [str(side) for side in sides])
        axes.minorticks_off()
    time_axes.set(title="latency, ms (median, p10 to p90)")
    memory_axes.set(title="memory of a call, MiB")
    batch_axes.set(title=f"latency over the batch, {by_batch[0]['side']} px, ms", xlabel="batch")
    batch_axes.set(ylim=(0, None), xticks=sorted({row["batch"] for row in by_batch}))
    time_axes.legend(frameon=False)
    for axes in (time_axes, memory_axes, batch_axes):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES, help="pixels, rising")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--channels", type=int, default=288, help="a multiple of 32")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    check(options.channels)
    machine = describe_machine("torch")
    print(machine)
    by_size = [
        row for side in options.sides for row in measure(1, side, options.channels, options.rounds)
    ]
    batch_side = BATCH_SIDE if BATCH_SIDE in options.sides else options.sides[0]
    by_batch = [
        row
        for batch in options.batches
        for row in measure(batch, batch_side, options.channels, options.rounds)
    ]
    exponents = {form: growth(by_size, form) for form in FORMS} if len(options.sides) > 1 else {}
    for form, exponent in exponents.items():
        print(f"{form}: latency grows as tokens^{exponent:.2f} between the two largest")
    if options.json:
        content = {"machine": machine, "by_size": by_size, "by_batch": by_batch}
        options.json.write_text(json.dumps(content | {"exponents": exponents}, indent=2) + "\n")
    if options.plot:
        draw(options.plot, by_size, by_batch)


if __name__ == "__main__":
    main()
