"""Tiny beside the plain U-Net in ONNX Runtime: both exported by us, one process, alternating.

    python benchmarks/onnxruntime_unet.py --imgsz 256 --rounds 100 --json unet.json

Exporting compares each file with Torch first; what differs is not timed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from rwkv_edge.bench.timing import alternate, describe_machine, print_table, ratio, summarise
from rwkv_edge.export import export_onnx
from rwkv_edge.models import CheckpointInfo, create_model, load_model
from rwkv_edge.runtime.onnxruntime import OnnxRuntimeRunner
from rwkv_edge.weights import shipped_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--imgsz", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    size = (options.imgsz, options.imgsz)
    networks = {
        "RWKV-UNet Tiny": load_model(shipped_checkpoint("tiny")),
        "U-Net": (create_model("unet").eval(), CheckpointInfo("unet")),
    }
    image = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
    runners = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (network, info) in networks.items():
            path = Path(folder) / f"{info.variant}.onnx"
            report = export_onnx(network, info, path, imgsz=size)
            print(f"{name}: differs from Torch by {report.max_error:.1e} at most")
            runners[name] = OnnxRuntimeRunner(path, options.threads)
    times = alternate(
        {name: partial(runner, image) for name, runner in runners.items()},
        options.rounds,
        warm_up=10,
    )
    machine = describe_machine("onnxruntime")
    print(machine)
    print_table(summarise(times))
    middle, low, high = ratio(times, *runners)
    print(
        f"Tiny takes {middle:.2f} of the U-Net's time ({low:.2f} to {high:.2f} in 8 of 10 rounds)"
    )
    if options.json:
        content = {"machine": machine, "times": summarise(times), "ratio": middle}
        options.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
