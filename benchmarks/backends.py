"""Tiny as trained, Tiny folded and the plain U-Net on every CPU backend: one process, in turns.

    python benchmarks/backends.py --imgsz 256 --rounds 60 --json backends.json

ONNX Runtime always, OpenVINO where it is installed. Exporting compares each file with Torch, and
every backend's output is compared with ONNX Runtime's; what differs is not timed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch

from rwkv_edge.bench.graph import read_nodes
from rwkv_edge.bench.timing import (
    alternate,
    describe_machine,
    print_table,
    ratio_interval,
    summarise,
)
from rwkv_edge.errors import BackendError
from rwkv_edge.export import export_onnx
from rwkv_edge.models import CheckpointInfo, create_model, load_model
from rwkv_edge.runtime import Runner
from rwkv_edge.runtime.onnxruntime import OnnxRuntimeRunner
from rwkv_edge.weights import shipped_checkpoint

PLAIN, FOLDED, UNET = "Tiny, as trained", "Tiny, folded", "U-Net"
TOLERANCE = {"fp32": 1e-4, "bf16": 0.02}
"""Mean difference in probability from ONNX Runtime's float32."""


def export_all(folder: Path, size: tuple[int, int]) -> dict[str, Path]:
    torch.manual_seed(0)
    tiny, info = load_model(shipped_checkpoint("tiny"))
    unet = (create_model("unet").eval(), CheckpointInfo("unet"))
    paths = {}
    for name, (network, told) in {PLAIN: (tiny, info), FOLDED: (tiny, info), UNET: unet}.items():
        paths[name] = folder / f"{name}.onnx"
        report = export_onnx(network, told, paths[name], imgsz=size, folded=name != PLAIN)
        nodes = read_nodes(onnx.load(paths[name]))
        work = sum(node.operations for node in nodes if node.on_matrix_units) / 2e9
        values = (v for node in nodes for v in (*node.inputs.values(), *node.outputs.values()))
        moved = 4 * (sum(values) + sum(node.weights for node in nodes)) / 1e6
        print(
            f"{name}: {len(nodes)} nodes, {work:.2f} G multiply-adds, {moved:.0f} MB moved node by "
            f"node; differs from Torch by {report.max_error:.1e} at most",
            flush=True,
        )
    return paths


def open_all(paths: dict[str, Path], threads: int | None) -> dict[tuple[str, str], Runner]:
    runners: dict[tuple[str, str], Runner] = {
        (name, "ONNX Runtime fp32"): OnnxRuntimeRunner(path, threads)
        for name, path in paths.items()
    }
    if importlib.util.find_spec("openvino") is None:
        print("OpenVINO is not installed here, so it is left out", file=sys.stderr)
        return runners
    from rwkv_edge.runtime.openvino import OpenVinoRunner

    for precision in ("fp32", "bf16"):
        try:
            for name, path in paths.items():
                runner = OpenVinoRunner(path, threads, precision)
                runners[name, f"OpenVINO {precision}"] = runner
        except BackendError as error:
            print(f"OpenVINO {precision} is left out: {error}", file=sys.stderr)
    return runners


def check(runners: dict[tuple[str, str], Runner], image: np.ndarray) -> None:
    """Refuse to time a backend that says something else than ONNX Runtime."""
    for (name, backend), runner in runners.items():
        expected = runners[name, "ONNX Runtime fp32"](image)
        error = float(np.abs(runner(image) - expected).mean())
        if not error < TOLERANCE[backend.split()[-1]]:
            sys.exit(f"error: {name} in {backend} is off by {error:.1e}; nothing is timed")
        print(f"{name}: {runner.backend}; off by {error:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--imgsz", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, help="of one inference; default: one a core")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    size = (options.imgsz, options.imgsz)
    image = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        runners = open_all(export_all(Path(folder), size), options.threads)
    check(runners, image)
    calls = {f"{n} | {b}": partial(runner, image) for (n, b), runner in runners.items()}
    times = alternate(calls, options.rounds, warm_up=5)
    packages = [p for p in ("onnxruntime", "openvino") if importlib.util.find_spec(p)]
    machine = describe_machine(*packages)
    print(machine)
    print_table(summarise(times))
    ratios = {}
    for backend in dict.fromkeys(backend for _, backend in runners):
        for name, other in ((FOLDED, UNET), (FOLDED, PLAIN), (PLAIN, UNET)):
            pair = [times[f"{n} | {backend}"] for n in (name, other)]
            interval = ratio_interval(*pair, paired=True)
            ratios[f"{backend}: {name} / {other}"] = vars(interval)
            print(f"{backend}: '{name}' takes {interval} of '{other}' (95 % interval)")
    if options.json:
        content = {"machine": machine, "times": summarise(times), "ratios": ratios}
        options.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
