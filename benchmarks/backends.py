"""Tiny and the plain U-Net on every CPU backend of this machine: one process, taking turns.

    python benchmarks/backends.py --imgsz 256 --rounds 100 --json backends.json

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
import torch

from rwkv_edge.bench.timing import (
    alternate,
    describe_machine,
    print_table,
    ratio_interval,
    summarise,
)
from rwkv_edge.export import export_onnx
from rwkv_edge.models import CheckpointInfo, create_model, load_model
from rwkv_edge.runtime import Runner
from rwkv_edge.runtime.onnxruntime import OnnxRuntimeRunner
from rwkv_edge.weights import shipped_checkpoint

TOLERANCE = 0.02
"""Mean difference in probability from ONNX Runtime; OpenVINO computes in bfloat16 where it can."""


def export_all(folder: Path, size: tuple[int, int]) -> dict[str, Path]:
    torch.manual_seed(0)
    networks = {
        "RWKV-UNet Tiny": load_model(shipped_checkpoint("tiny")),
        "U-Net": (create_model("unet").eval(), CheckpointInfo("unet")),
    }
    paths = {}
    for name, (network, info) in networks.items():
        paths[name] = folder / f"{info.variant}.onnx"
        report = export_onnx(network, info, paths[name], imgsz=size)
        print(f"{name}: differs from Torch by {report.max_error:.1e} at most", flush=True)
    return paths


def open_all(paths: dict[str, Path], threads: int | None) -> dict[str, Runner]:
    runners: dict[str, Runner] = {
        f"{name}, ONNX Runtime": OnnxRuntimeRunner(path, threads) for name, path in paths.items()
    }
    if importlib.util.find_spec("openvino") is None:
        print("OpenVINO is not installed here, so it is left out", file=sys.stderr)
        return runners
    from rwkv_edge.runtime.openvino import OpenVinoRunner

    return runners | {f"{name}, OpenVINO": OpenVinoRunner(path) for name, path in paths.items()}


def check(runners: dict[str, Runner], image: np.ndarray) -> None:
    """Refuse to time a backend that says something else than ONNX Runtime."""
    for name, runner in runners.items():
        expected = runners[f"{name.split(', ')[0]}, ONNX Runtime"](image)
        error = float(np.abs(runner(image) - expected).mean())
        if not error < TOLERANCE:
            sys.exit(f"error: {name} is off by {error:.1e} in probability; not timed")
        print(f"{name}: {runner.backend}; off by {error:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--imgsz", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--threads", type=int, help="of ONNX Runtime")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    size = (options.imgsz, options.imgsz)
    image = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        runners = open_all(export_all(Path(folder), size), options.threads)
    check(runners, image)
    calls = {name: partial(runner, image) for name, runner in runners.items()}
    times = alternate(calls, options.rounds, warm_up=5)
    packages = ["onnxruntime"]
    packages += ["openvino"] if any("OpenVINO" in name for name in runners) else []
    machine = describe_machine(*packages)
    print(machine)
    print_table(summarise(times))
    ratios = {}
    for name in runners:
        network, backend = name.split(", ")
        if network == "RWKV-UNet Tiny":
            interval = ratio_interval(times[name], times[f"U-Net, {backend}"], paired=True)
            ratios[backend] = vars(interval)
            print(f"{backend}: Tiny takes {interval} of the U-Net's time (95 % interval)")
    if options.json:
        content = {"machine": machine, "times": summarise(times), "ratios": ratios}
        options.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
