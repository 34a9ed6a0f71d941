"""bi-WKV on a GPU beside three other ways to compute it, and beside what memory allows.

    python benchmarks/gpu/kernels.py --output gpu-results

Times are CUDA events around the replay of a graph. "cold" cycles through inputs that together are
twice the L2 cache, so that every byte comes from memory: compare it with "limit", the bytes that
must move (k and v read, y written; backward: grad_y too, and two gradients) over the bandwidth that
a large copy reached just before. "warm" uses the same inputs again and again. A form whose numbers
differ from the float64 reference is not timed, and the script fails.
"""

from __future__ import annotations

import ctypes
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measure import copy_bandwidth, make_parser, open_device, time_replays, write_report
from torch import Tensor

from rwkv_edge.compiler import find_tool
from rwkv_edge.ops import bi_wkv_ref, extension
from rwkv_edge.ops.bi_wkv import bi_wkv_backward_op, bi_wkv_op, torch_backward, torch_forward

Form = Callable[..., Any]
SHAPES = ((1, 1024, 288), (1, 256, 560), (1, 4096, 288), (8, 1024, 288), (8, 4096, 288))
DRY_SHAPES = ((2, 64, 24),)
TYPES = {"fp16": torch.float16, "fp32": torch.float32}
TOLERANCE = {torch.float16: 4e-3, torch.float32: 2e-5}
PLAIN = Path(__file__).resolve().parents[1] / "plain_two_scans.cu"
CHECKED_CHANNELS = 8
MOST_SETS = 256
OURS, TORCH, COMPILED, TWO_SCANS = "ours", "torch", "torch.compile", "plain two scans"


def make_inputs(shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> list:
    """w and u as trained networks have them, k, v and a gradient."""
    batch, tokens, channels = shape
    w = torch.linspace(-5, 3, channels, device=device) / tokens
    u = torch.randn(channels, device=device) / tokens
    return [w, u, *(torch.randn(batch, tokens, channels, device=device).to(dtype) for _ in "kvg")]


def load_plain(folder: Path) -> ctypes.CDLL:
    """Compile the yardstick for the GPU that is here."""
    nvcc = find_tool("nvcc")
    if nvcc is None:
        sys.exit("error: no nvcc here; it compiles the plain kernel, and ours")
    library = folder / "plain.so"
    command = [nvcc, "-std=c++17", "-O3", "-arch=native", "-shared", "-Xcompiler=-fPIC"]
    subprocess.run([*command, "-o", str(library), str(PLAIN)], check=True)
    return ctypes.CDLL(str(library))


def plain_form(library: ctypes.CDLL, w: Tensor, u: Tensor, k: Tensor, v: Tensor) -> Tensor:
    function = library.plain_fp16 if k.dtype == torch.float16 else library.plain_fp32
    y, left = torch.empty_like(k), torch.empty(3 * k.numel(), device=k.device)
    stream = torch.cuda.current_stream().cuda_stream
    pointers = [ctypes.c_void_p(x.data_ptr()) for x in (w, u, k, v, y, left)]
    error = function(*k.shape, *pointers, ctypes.c_void_p(stream))
    if error:
        sys.exit(f"error: the plain kernel returned CUDA error {error}")
    return y


def make_forms(device: torch.device, folder: Path) -> dict[str, dict[str, Form]]:
    """Forward forms from (w, u, k, v), backward forms from (grad, w, u, k, v)."""
    forward = partial(torch_forward, exact=torch.float32)
    backward = partial(torch_backward, exact=torch.float32)
    forms: dict[str, dict[str, Form]] = {
        "forward": {OURS: bi_wkv_op, TORCH: forward},
        "backward": {OURS: bi_wkv_backward_op, TORCH: backward},
    }
    if device.type == "cuda":
        forms["forward"][COMPILED] = torch.compile(forward, dynamic=False)
        forms["backward"][COMPILED] = torch.compile(backward, dynamic=False)
        forms["forward"][TWO_SCANS] = partial(plain_form, load_plain(folder))
    return forms


@torch.enable_grad()
def error_of(what: str, form: Form, inputs: list[Tensor]) -> float:
    """Largest difference from float64 of y, or of the gradients for k and v, relative to them.

    Channels do not know each other, so a few of them are checked.
    """
    w, u, k, v, grad = inputs
    few = slice(0, CHECKED_CHANNELS)
    w64, u64 = w[few].double(), u[few].double()
    leaves = [x[..., few].double().requires_grad_() for x in (k, v)]
    exact = [bi_wkv_ref(w64, u64, *leaves)]
    if what == "forward":
        exact, ours = [exact[0].detach()], [form(w, u, k, v)]
    else:
        exact = list(torch.autograd.grad(exact[0], leaves, grad[..., few].double()))
        ours = list(form(grad, w, u, k, v)[2:])
    return max(
        float((a[..., few].double() - b).abs().max() / b.abs().max().clamp(min=1))
        for a, b in zip(ours, exact, strict=True)
    )


def time_form(
    what: str, form: Form, sets: list[list[Tensor]], device: torch.device, rounds: int
) -> float:
    """Median microseconds of a call that goes through the sets of inputs in turn.

    Each set has outputs of its own: Torch gives what was let go to the next call, and what is
    written to the same place again and again never leaves the cache.
    """
    results: dict[int, object] = {}

    def call(w: Tensor, u: Tensor, k: Tensor, v: Tensor, grad: Tensor) -> None:
        result = form(w, u, k, v) if what == "forward" else form(grad, w, u, k, v)
        results[k.data_ptr()] = result

    calls = [partial(call, *inputs) for inputs in sets]
    return statistics.median(time_replays(calls, device, rounds)) * 1e6


@torch.no_grad()
def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    device = open_device(options.dry_run)
    rounds = 2 if options.dry_run else options.rounds
    if device.type == "cuda" and (reason := extension.why_not()):
        sys.exit(f"error: {reason}")
    torch.manual_seed(0)
    bandwidth = copy_bandwidth(device, options.dry_run)
    print(f"copy bandwidth: {bandwidth / 1e9:.0f} GB/s")
    cache = torch.cuda.get_device_properties(device).L2_cache_size if device.type == "cuda" else 0
    rows, failed = [], []
    with tempfile.TemporaryDirectory() as folder:
        forms = make_forms(device, Path(folder))
        for shape in DRY_SHAPES if options.dry_run else SHAPES:
            for type_name, dtype in TYPES.items():
                torch.compiler.reset()  # else it gives up compiling after eight shapes
                inputs = make_inputs(shape, dtype, device)
                for what, moved in (("forward", 3), ("backward", 5)):
                    size = moved * inputs[2].nbytes
                    count = max(2, min(MOST_SETS, -(-2 * cache // size)))
                    sets = [make_inputs(shape, dtype, device) for _ in range(count)]
                    limit = size / bandwidth * 1e6
                    for name, form in forms[what].items():
                        error = error_of(what, form, inputs)
                        if not error < TOLERANCE[dtype]:
                            failed.append(
                                f"{name}, {what}, {shape}, {type_name}: off by {error:.1e}"
                            )
                            continue
                        cold = time_form(what, form, sets, device, rounds)
                        warm = time_form(what, form, [inputs] * count, device, rounds)
                        rows.append(
                            {
                                "shape": "x".join(map(str, shape)),
                                "type": type_name,
                                "what": what,
                                "form": name,
                                "cold us": cold,
                                "warm us": warm,
                                "limit us": limit,
                                "cold / limit": cold / limit,
                                "error": error,
                            }
                        )
                        print(".", end="", flush=True)
    write_report(options, "kernels", rows, copy_bandwidth=bandwidth, failed=failed)
    if failed:
        sys.exit("error: not timed, because wrong: " + "; ".join(failed))


if __name__ == "__main__":
    main()
