"""Does the estimator of `rwkv-edge estimate` hold where latency can be measured? On this CPU.

    python benchmarks/estimate_validation.py --rounds 30 --json estimate.json --markdown estimate.md

The machine is measured first, with nothing of the graphs under test: bandwidth by copying arrays in
NumPy (in cache and in memory), arithmetic by single large operators in ONNX Runtime (a product, a
3x3 and a depthwise convolution, of which the fastest dense and the depthwise one are the rates),
the launch by a chain of additions of one element. Efficiencies come from the same kind of probe:
small operators with few channels, as a share of the rates. Then the same code that estimates a
Jetson predicts six graphs, and ONNX Runtime runs them, in turns. Exporting compares each file with
Torch first; what differs is not timed.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import ModelProto, parser

from rwkv_edge.bench.graph import read_nodes
from rwkv_edge.bench.roofline import Efficiency, Rates, Shares, estimate
from rwkv_edge.bench.timing import alternate, describe_machine, summarise
from rwkv_edge.export import export_onnx
from rwkv_edge.models import CheckpointInfo, create_model
from rwkv_edge.runtime.onnxruntime import OnnxRuntimeRunner

Clock = Callable[[], float]
GRAPHS = (
    ("tiny", 256),
    ("small", 256),
    ("base", 256),
    ("unet", 256),
    ("tiny", 384),
    ("unet", 384),
)
SMOKE = (("tiny", 32), ("unet", 32))
CACHE_BYTES, MEMORY_BYTES = 1 << 20, 64 << 20
"""Sizes of the arrays that are copied; values up to the first are taken to stay in a cache."""
CHAIN = 64

LARGE = {
    "product": "y = MatMul(x, w)",
    "convolution": "y = Conv<pads = [1,1,1,1]>(x, w)",
    "depthwise": "y = Conv<group = 64, pads = [2,2,2,2]>(x, w)",
}
LARGE_SHAPES = {
    "product": ("1,2048,512", "512,512"),
    "convolution": ("1,128,64,64", "128,128,3,3"),
    "depthwise": ("1,64,64,64", "64,1,5,5"),
}
# Few channels, few pixels or a broad 3x3, as the networks have, but none of their own layers.
SMALL_DENSE = (
    ("y = Conv(x, w)", "1,16,96,96", "64,16,1,1"),
    ("y = Conv(x, w)", "1,256,24,24", "64,256,1,1"),
    ("y = Conv<pads = [1,1,1,1]>(x, w)", "1,24,96,96", "24,24,3,3"),
    ("y = Conv<pads = [1,1,1,1]>(x, w)", "1,80,48,48", "80,80,3,3"),
    ("y = MatMul(x, w)", "1,576,200", "200,200"),
)
SMALL_DEPTHWISE = (
    ("y = Conv<group = 128, pads = [2,2,2,2]>(x, w)", "1,128,24,24", "128,1,5,5"),
    ("y = Conv<group = 40, pads = [4,4,4,4]>(x, w)", "1,40,48,48", "40,1,9,9"),
    ("y = Conv<group = 32, pads = [2,2,2,2], strides = [2,2]>(x, w)", "1,32,96,96", "32,1,5,5"),
)
SMALL_MEMORY = (
    ("y = Add(x, x)", "1,64,96,96", None),
    ("y = Relu(x)", "1,64,96,96", None),
    ("y = Transpose<perm = [0,2,1]>(x)", "1,96,9216", None),
    ("y = LayerNormalization(x, w)", "1,9216,96", "96"),
)


def session(model: ModelProto, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    # many sessions take turns here: one that waits must not spin beside the one that runs
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def probe(body: str, shape: str, weights: str | None) -> ModelProto:
    """One operator on x, with a constant w."""
    rank = 4 if "Conv" in body or "Relu" in body or "Add" in body else 3
    sides = ",".join(f"s{i}" for i in range(rank))
    model = parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : 18]> g (float[{shape}] x) => (float[{sides}] y) '
        f"{{ {body} }}"
    )
    if weights:
        dims = [int(side) for side in weights.split(",")]
        values = np.random.default_rng(0).standard_normal(dims).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, "w"))
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def feed(model: ModelProto) -> dict[str, np.ndarray]:
    sides = [side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim]
    return {"x": np.random.default_rng(1).standard_normal(sides).astype(np.float32)}


def seconds_of(
    calls: dict[str, Callable[[], object]], rounds: int, clock: Clock
) -> dict[str, float]:
    """Median seconds by name."""
    times = summarise(alternate(calls, rounds, clock=clock))
    return {name: row["p50_ms"] / 1e3 for name, row in times.items()}


def copy_bandwidth(size: int, threads: int, rounds: int, clock: Clock) -> float:
    """Bytes a second, read and written, of `threads` copies side by side."""
    arrays = [(np.ones(size // 8), np.empty(size // 8)) for _ in range(threads)]
    repeats = max(1, (16 << 20) // size)

    def copy(pair: tuple[np.ndarray, np.ndarray]) -> None:
        for _ in range(repeats):
            np.copyto(pair[1], pair[0])

    with ThreadPoolExecutor(threads) as pool:
        spent = seconds_of({"copy": lambda: list(pool.map(copy, arrays))}, rounds, clock)["copy"]
    return 2.0 * size * repeats * threads / spent


def measure_machine(
    threads: int, rounds: int, clock: Clock
) -> tuple[Rates, Efficiency, dict[str, float]]:
    """Measure the rates, and the shares of them that small operators reach."""
    cache = copy_bandwidth(CACHE_BYTES, threads, rounds, clock)
    memory = copy_bandwidth(MEMORY_BYTES, threads, rounds, clock)
    probes = {name: probe(body, *LARGE_SHAPES[name]) for name, body in LARGE.items()}
    for kind, bodies in (
        ("dense", SMALL_DENSE),
        ("depthwise", SMALL_DEPTHWISE),
        ("memory", SMALL_MEMORY),
    ):
        probes |= {f"{kind} {index}": probe(*body) for index, body in enumerate(bodies)}
    chain = "a0 = Add(x, x) " + " ".join(f"a{i} = Add(a{i - 1}, x)" for i in range(1, CHAIN))
    probes["chain"] = probe(f"{chain} y = Add(a{CHAIN - 1}, x)", "1,1,1,1", None)
    calls = {
        name: partial(session(model, threads).run, None, feed(model))
        for name, model in probes.items()
    }
    spent = seconds_of(calls, rounds, clock)
    launch = spent["chain"] / (CHAIN + 1)
    work = {name: read_nodes(model)[0].operations for name, model in probes.items()}
    speed = {name: work[name] / spent[name] for name in probes}
    rates = Rates(
        matrix=max(speed["product"], speed["convolution"]),
        vector=speed["depthwise"],
        bandwidth=memory,
        launch=(launch, launch),
        cache_bytes=CACHE_BYTES,
        cache_bandwidth=max(cache, memory),
    )
    dense = [speed[name] / rates.matrix for name in speed if name.startswith("dense")]
    vector = [speed[name] / rates.vector for name in speed if name.startswith("depthwise ")]
    moved = [
        sum(np.prod(shape_of(probes[name], side)) * 4 for side in "xy") / spent[name] / memory
        for name in speed
        if name.startswith("memory")
    ]

    def shares(pick: Callable[[list[float]], float]) -> Shares:
        return Shares(*(min(1.0, float(pick(found))) for found in (dense, vector, moved)))

    told = {name: value / 1e9 for name, value in speed.items() if name in LARGE}
    return rates, Efficiency(shares(min), shares(max)), told


def shape_of(model: ModelProto, name: str) -> list[int]:
    for value in (*model.graph.input, *model.graph.output):
        if value.name == name:
            return [side.dim_value for side in value.type.tensor_type.shape.dim]
    raise KeyError(name)


def export(folder: Path, variant: str, size: int) -> Path:
    torch.manual_seed(0)
    path = folder / f"{variant}-{size}.onnx"
    report = export_onnx(
        create_model(variant).eval(), CheckpointInfo(variant), path, imgsz=(size, size)
    )
    print(f"{variant} {size}: differs from Torch by {report.max_error:.1e} at most", flush=True)
    return path


def verdict(row: dict[str, float]) -> str:
    if row["measured_ms"] < row["bound_ms"]:
        return "below the bound"
    if row["measured_ms"] < row["likely_low_ms"]:
        return "below the range"
    return "in the range" if row["measured_ms"] <= row["likely_high_ms"] else "above the range"


def to_markdown(rows: list[dict[str, object]]) -> str:
    lines = [
        "| graph | bound, ms | likely, ms | measured, ms (p10 to p90) | |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            "| {graph} | {bound_ms:.1f} | {likely_low_ms:.1f} to {likely_high_ms:.1f} "
            "| {measured_ms:.1f} ({p10_ms:.1f} to {p90_ms:.1f}) | {verdict} |".format(**row)
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--smoke", action="store_true", help="two tiny graphs: does it run at all?")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="count this process's processor time, on a machine that others use; one thread",
    )
    options = parser.parse_args()
    if options.cpu_time and options.threads != 1:
        parser.error("--cpu-time adds up threads: give --threads 1")
    clock = time.process_time if options.cpu_time else time.perf_counter
    machine = describe_machine("onnxruntime", "numpy")
    print(machine)
    rates, efficiency, speeds = measure_machine(options.threads, options.rounds, clock)
    print(
        f"copy {rates.cache_bandwidth / 1e9:.1f} GB/s in cache, {rates.bandwidth / 1e9:.1f} in "
        f"memory; {', '.join(f'{name} {speed:.0f} GFLOP/s' for name, speed in speeds.items())}; "
        f"launch {rates.launch[0] * 1e6:.1f} us"
    )
    print(f"shares that small operators reach: {efficiency}")
    with tempfile.TemporaryDirectory() as folder:
        paths = {
            f"{variant} {size}": export(Path(folder), variant, size)
            for variant, size in (SMOKE if options.smoke else GRAPHS)
        }
        found = {
            name: estimate(read_nodes(onnx.load(path)), rates, efficiency, "fp32")
            for name, path in paths.items()
        }
        calls = {}
        for name, path in paths.items():
            runner = OnnxRuntimeRunner(path, options.threads)
            calls[name] = partial(runner, np.zeros((1, *runner.info.input_size, 3), np.uint8))
        measured = summarise(alternate(calls, options.rounds, clock=clock))
    rows: list[dict[str, object]] = []
    for name, result in found.items():
        figures = {
            "bound_ms": result.bound_s * 1e3,
            "likely_low_ms": result.likely_s[0] * 1e3,
            "likely_high_ms": result.likely_s[1] * 1e3,
            "measured_ms": measured[name]["p50_ms"],
            "p10_ms": measured[name]["p10_ms"],
            "p90_ms": measured[name]["p90_ms"],
        }
        rows.append({"graph": name, **figures, "verdict": verdict(figures)})
    print(to_markdown(rows))
    held = sum(row["verdict"] == "in the range" for row in rows)
    print(f"{held} of {len(rows)} in the likely range")
    if options.markdown:
        options.markdown.write_text(to_markdown(rows))
    if options.json:
        content = {"machine": machine, "rates": vars(rates), "speeds": speeds, "graphs": rows}
        options.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
