"""bi-WKV on the CPU: our op beside the straightforward chunked-matrix form, forward and backward.

    python benchmarks/bi_wkv_cpu.py --json bi_wkv_cpu.json

Refuses to time a form whose output or gradients differ from the float64 reference.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from rwkv_edge.bench.timing import alternate, describe_machine, print_table, ratio, summarise
from rwkv_edge.ops import bi_wkv, bi_wkv_ref

Form = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
CHUNK = 16
VOID = -1e30
TOLERANCE = 1e-4


def chunked_matrix(w: Tensor, u: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The form that comes to mind first: a matrix of pairs in each chunk, and one of chunks.

    Inside a chunk every pair is weighed; each chunk is summed up as seen from its last and its
    first token, and every other chunk weighs these sums. Linear in T but for the chunks' matrix.
    T must be a multiple of the chunk.
    """
    batch, tokens, channels = k.shape
    count, length = tokens // CHUNK, CHUNK
    key, value = (x.transpose(1, 2).reshape(batch, channels, count, length) for x in (k, v))
    i, c = torch.arange(length), torch.arange(count)
    rate = w[:, None, None]
    distance = (i[:, None] - i).abs()
    bias = torch.where(distance == 0, u[:, None, None], -(distance - 1) * rate)
    ahead = c[:, None] - c
    inside = key[:, :, :, None] + bias[:, None]
    masses = [torch.logsumexp(inside, -1)]
    means = [(torch.softmax(inside, -1) @ value[..., None])[..., 0]]
    for to_edge, sign in ((length - 1 - i, 1), (i, -1)):
        seen = key - rate * to_edge
        chunk = torch.logsumexp(seen, -1)[:, :, None] - (sign * ahead - 1) * length * rate
        chunk = chunk.masked_fill(sign * ahead <= 0, VOID)
        chunk_mean = (torch.softmax(seen, -1) * value).sum(-1)
        mean = torch.softmax(chunk, -1) @ chunk_mean[..., None]
        masses.append(torch.logsumexp(chunk, -1)[..., None] - (length - 1 - to_edge) * rate)
        means.append(mean.expand_as(value))
    y = (torch.softmax(torch.stack(masses), 0) * torch.stack(means)).sum(0)
    return y.reshape(batch, channels, tokens).transpose(1, 2)


def make_inputs(batch: int, tokens: int, channels: int) -> list[Tensor]:
    torch.manual_seed(0)
    w = torch.linspace(-5, 3, channels) / tokens
    u = torch.randn(channels) / tokens
    return [w, u, torch.randn(batch, tokens, channels), torch.randn(batch, tokens, channels)]


def gradients(form: Form, inputs: list[Tensor], grad: Tensor) -> tuple[Tensor, ...]:
    leaves = [x.detach().requires_grad_() for x in inputs]
    return torch.autograd.grad(form(*leaves), leaves, grad)


def check(form: Form, inputs: list[Tensor], grad: Tensor) -> None:
    pairs = [(form(*inputs), bi_wkv_ref(*inputs))]
    pairs += zip(gradients(form, inputs, grad), gradients(bi_wkv_ref, inputs, grad), strict=True)
    for ours, theirs in pairs:
        error = float((ours - theirs).abs().max() / theirs.abs().max())
        if not error < TOLERANCE:
            sys.exit(f"error: {form.__name__} is off by {error:.1e}; not timed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    forms: dict[str, Form] = {"cumulative (ours)": bi_wkv, "chunked matrix": chunked_matrix}
    for form in forms.values():
        small = make_inputs(2, 128, 24)
        check(form, small, torch.randn(small[2].shape))
    report = {"machine": describe_machine("torch"), "results": []}
    print(report["machine"])
    for shape in ((1, 1024, 288), (1, 256, 560)):
        inputs = make_inputs(*shape)
        grad = torch.randn(shape)
        with torch.no_grad():
            forward = alternate({n: partial(f, *inputs) for n, f in forms.items()}, options.rounds)
        both = alternate(
            {n: partial(gradients, f, inputs, grad) for n, f in forms.items()},
            max(3, options.rounds // 3),
            warm_up=1,
        )
        for title, times in (("forward", forward), ("forward and backward", both)):
            print(f"\n{title}, (B, T, C) = {shape}")
            print_table(summarise(times))
            middle, low, high = ratio(times, *forms)
            print(f"ours takes {middle:.3f} of the chunked form's time ({low:.3f} to {high:.3f})")
            report["results"].append(
                {"shape": shape, "what": title, "times": summarise(times), "ratio": middle}
            )
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
