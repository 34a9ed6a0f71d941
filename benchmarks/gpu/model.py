"""Whole networks on a GPU: latency in Torch's ways and in TensorRT's, and where the time goes.

    python benchmarks/gpu/model.py --output gpu-results

Latency is from the call until the probabilities are there. A way whose probabilities differ from
float32 eager is not timed, and the script fails. TensorRT and TensorRT-RTX engines are built and
run by rwkv-edge itself where they are installed; where that fails, the very error is in the table.
"""

from __future__ import annotations

import copy
import importlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from measure import capture, make_parser, open_device, percentiles, time_calls, write_report
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from rwkv_edge.cache import cache_folder
from rwkv_edge.errors import RwkvEdgeError
from rwkv_edge.models import CheckpointInfo, Segmenter, create_model, load_model, save_checkpoint
from rwkv_edge.ops import extension
from rwkv_edge.runtime.plugin import default_folder
from rwkv_edge.weights import shipped_checkpoint

LARGEST_ERROR, LARGEST_DISAGREEMENT = 0.1, 0.01
"""Of probabilities, and share of pixels on the other side of 0.5."""
SHOWN_OPERATORS = 12
ENGINE_BACKENDS = ("tensorrt", "tensorrt-rtx")
Run = Callable[[], Tensor]


def load_network(variant: str) -> tuple[nn.Module, str]:
    """Shipped weights, or fresh ones where none ship: the time is the same."""
    try:
        return load_model(shipped_checkpoint(variant))[0], "shipped"
    except RwkvEdgeError:
        torch.manual_seed(0)
        return create_model(variant).eval(), "fresh"


def to_half(segmenter: nn.Module) -> nn.Module:
    """float16, but for the decays and bonuses of bi-WKV, which are float32 by definition."""
    half = copy.deepcopy(segmenter).half()
    for name, parameter in half.named_parameters():
        if name.endswith(("spatial_decay", "spatial_first")):
            parameter.data = segmenter.get_parameter(name).data.float()
    return half


def make_ways(segmenter: nn.Module, image: Tensor) -> dict[str, Callable[[], Run]]:
    """Each way to run the network, made when it is its turn."""
    half = to_half(segmenter)
    last = copy.deepcopy(half).to(memory_format=torch.channels_last)
    ways: dict[str, Callable[[], Run]] = {
        "fp32 eager": lambda: lambda: segmenter(image),
        "fp16 eager": lambda: lambda: half(image),
        "fp16 channels-last": lambda: lambda: last(image),
    }
    if image.is_cuda:
        torch.compiler.reset()  # else it gives up compiling after eight shapes
        ways["fp16 channels-last, CUDA graph"] = lambda: graphed(last, image)
        compiled = torch.compile(last, dynamic=False)
        ways["fp16 compiled"] = lambda: lambda: compiled(image)
        ways["fp16 compiled, CUDA graph"] = lambda: graphed(compiled, image)
    return ways


def graphed(network: Callable[[Tensor], Tensor], image: Tensor) -> Run:
    result: dict[str, Tensor] = {}

    def call() -> None:
        result["probability"] = network(image)

    graph = capture([call])

    def replay() -> Tensor:
        graph.replay()
        return result["probability"]

    return replay


def difference(ours: Tensor, expected: Tensor) -> tuple[float, float]:
    """Largest difference of probabilities; share of pixels whose mask differs."""
    error = float((ours.float() - expected).abs().max())
    return error, float(((ours >= 0.5) != (expected >= 0.5)).float().mean())


def operators(run: Run, device: torch.device) -> list[dict[str, Any]]:
    """The operators that take the longest, by their own time on the device."""
    activities = [ProfilerActivity.CPU]
    activities += [ProfilerActivity.CUDA] if device.type == "cuda" else []
    with profile(activities=activities) as profiler:
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
    key = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    return heaviest(profiler.key_averages(), key)


def heaviest(averages: Sequence[Any], key: str) -> list[dict[str, Any]]:
    """The profiler's rows of operators with the most of `key`."""
    # Kernels have rows too, and their time is in that of the operator which launched them.
    events = [event for event in averages if event.device_type == DeviceType.CPU]
    events.sort(key=lambda event: getattr(event, key), reverse=True)
    total = sum(getattr(event, key) for event in events) or 1
    return [
        {
            "operator": event.key,
            "calls": event.count,
            "ms": getattr(event, key) / 1e3,
            "share": getattr(event, key) / total,
        }
        for event in events[:SHOWN_OPERATORS]
    ]


def time_engine(
    backend: str, variant: str, weights: Path, image: Tensor, expected: Tensor, rounds: int
) -> dict[str, Any]:
    """Build an engine with the command line, check it, time it; or say why not."""
    batch, height, width = image.shape[:3]
    with tempfile.TemporaryDirectory() as folder:
        engine = Path(folder) / "model.engine"
        command = [sys.executable, "-m", "rwkv_edge", "build", "--variant", variant]
        command += ["--weights", str(weights), "--imgsz", f"{height}x{width}", "--fp16"]
        command += ["--batch", str(batch), "--backend", backend, "--output", str(engine)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return {"error": (done.stderr.strip().splitlines() or ["no reason given"])[-1]}
        try:
            tensorrt = importlib.import_module("rwkv_edge.runtime.tensorrt")
            plugins = [default_folder(cache_folder())]
            pixels = image.cpu().numpy()
            with tensorrt.TensorRTRunner(engine, plugins) as runner:
                found = torch.from_numpy(runner(pixels))
                error, disagreement = difference(found, expected.cpu())
                if not (error < LARGEST_ERROR and disagreement < LARGEST_DISAGREEMENT):
                    return {"error": f"wrong: {error:.1e}, masks {disagreement:.1%}; not timed"}
                times = time_calls(lambda: runner(pixels), torch.device("cpu"), rounds)
                return {**percentiles(times), "max error": error}
        except Exception as error:  # whatever it is belongs into the table
            return {"error": f"{type(error).__name__}: {str(error).splitlines()[0]}"}


@torch.inference_mode()
def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--variants", nargs="+", default=["tiny", "small", "unet"])
    parser.add_argument("--imgsz", nargs="+", type=int, default=[256, 512])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    device = open_device(options.dry_run)
    sizes, batches, rounds = options.imgsz, options.batch, options.rounds
    if options.dry_run:
        sizes, batches, rounds = [32], [1], 2
    elif reason := extension.why_not():
        sys.exit(f"error: {reason}")
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    rows: list[dict[str, Any]] = []
    failed, hot = [], {}
    for variant in options.variants:
        network, weights = load_network(variant)
        segmenter = Segmenter(network).eval().to(device)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{variant}.safetensors"
            save_checkpoint(path, network.state_dict(), CheckpointInfo(variant))
            for size in sizes:
                for batch in batches:
                    shape = {"variant": variant, "imgsz": size, "batch": batch, "weights": weights}
                    torch.manual_seed(0)
                    shades = torch.randint(0, 256, (batch, 8, 8, 3)).float().permute(0, 3, 1, 2)
                    image = nn.functional.interpolate(shades, (size, size), mode="bicubic")
                    image = image.clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
                    image = image.to(device)
                    expected = segmenter(image).clone()
                    for way, make in make_ways(segmenter, image).items():
                        run = make()
                        error, disagreement = difference(run(), expected)
                        name = f"{variant}, {size}, batch {batch}, {way}"
                        if not (error < LARGEST_ERROR and disagreement < LARGEST_DISAGREEMENT):
                            failed.append(f"{name}: {error:.1e}, masks {disagreement:.1%}")
                            continue
                        times = percentiles(time_calls(run, device, rounds))
                        rows.append({**shape, "way": way, **times, "max error": error})
                        if way == "fp16 channels-last":
                            hot[name] = operators(run, device)
                        print(".", end="", flush=True)
                    if options.dry_run:
                        continue
                    for backend in ENGINE_BACKENDS:
                        result = time_engine(backend, variant, path, image, expected, rounds)
                        rows.append({**shape, "way": f"fp16 {backend}, copies included", **result})
    for name, table in hot.items():
        print(f"\n{name}")
        for row in table:
            print(f"{row['share']:6.1%} {row['ms']:9.3f} ms {row['calls']:5} {row['operator']}")
    write_report(options, "model", rows, operators=hot, failed=failed)
    if failed:
        sys.exit("error: not timed, because wrong: " + "; ".join(failed))


if __name__ == "__main__":
    main()
