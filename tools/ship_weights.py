"""Turn a run's best weights into the files that ship: float16 safetensors, and the ONNX beside it.

    python tools/ship_weights.py runs/train/exp/weights/best.safetensors --training "800 images"

The ONNX file is exported from the rounded weights, so that every backend runs the same numbers.
The model card (rwkv_edge/weights/README.md) is written by hand, from what `rwkv-edge eval` prints.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from rwkv_edge.config import DEFAULT_IMGSZ
from rwkv_edge.export import export_onnx
from rwkv_edge.files import file_sha256
from rwkv_edge.models import load_model, save_checkpoint
from rwkv_edge.weights import FOLDER


def main() -> None:
    """Write both files into the package."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--training", required=True, help="data and recipe, in a sentence")
    options = parser.parse_args()
    network, info = load_model(options.weights)
    size = (DEFAULT_IMGSZ, DEFAULT_IMGSZ)
    info = dataclasses.replace(info, training=options.training, imgsz=size)
    checkpoint = FOLDER / f"rwkv-unet-{info.variant}.safetensors"
    save_checkpoint(checkpoint, network.state_dict(), info, half=True)
    rounded, _ = load_model(checkpoint)
    report = export_onnx(
        rounded,
        info,
        FOLDER / f"rwkv-unet-{info.variant}-{DEFAULT_IMGSZ}.onnx",
        imgsz=size,
        weights_sha256=file_sha256(checkpoint),
    )
    for path in (checkpoint, report.path):
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, sha256 {file_sha256(path)}")
    print(f"largest difference from Torch in probability: {report.max_error:.1e}")


if __name__ == "__main__":
    main()
