"""Turn a run's best weights into files that ship or are released, and enter them in the registry.

    python tools/ship_weights.py runs/train/exp/weights/best.safetensors --training "800 images" \
        --data kvasir-seg
    python tools/ship_weights.py best.safetensors --training "800 images" --data kvasir-seg \
        --output release --url https://where.they/will/be
    python tools/ship_weights.py --data kvasir-seg      enters again what lies in the package

Two files: float16 safetensors, and the ONNX exported from the rounded weights, so that every
backend runs the same numbers. rwkv_edge/weights/registry.json gets their sizes and hashes, and the
Dice of the ONNX file on the data's validation images. With --output they stay out of the package;
upload them to --url, then commit the registry. The model card is written by hand.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from pathlib import Path

from rwkv_edge.config import DEFAULT_IMGSZ, VARIANTS
from rwkv_edge.data.pairs import load_dataset
from rwkv_edge.errors import RwkvEdgeError
from rwkv_edge.evaluation import evaluate_masks, predict_probability
from rwkv_edge.export import export_onnx
from rwkv_edge.files import file_sha256, make_folder
from rwkv_edge.models import load_model, save_checkpoint
from rwkv_edge.runtime.onnxruntime import OnnxRuntimeRunner
from rwkv_edge.weights import FOLDER, checkpoint_name, onnx_name
from rwkv_edge.weights.registry import Entry, load_registry, save_registry


def export(weights: Path, training: str, folder: Path) -> str:
    """Write both files into `folder`; return the variant."""
    network, info = load_model(weights)
    size = (DEFAULT_IMGSZ, DEFAULT_IMGSZ)
    info = dataclasses.replace(info, training=training, imgsz=size)
    checkpoint = folder / checkpoint_name(info.variant)
    save_checkpoint(checkpoint, network.state_dict(), info, half=True)
    rounded, _ = load_model(checkpoint)
    report = export_onnx(
        rounded,
        info,
        folder / onnx_name(info.variant),
        imgsz=size,
        weights_sha256=file_sha256(checkpoint),
    )
    print(f"largest difference from Torch in probability: {report.max_error:.1e}")
    return info.variant


def measure(model: Path, data: Path) -> tuple[float, str]:
    """Return the mean Dice on the data's validation images, and what they are."""
    dataset = load_dataset(data)
    pairs = dataset.pairs("val")
    with OnnxRuntimeRunner(model) as runner:
        size = runner.info.input_size
        result = evaluate_masks(
            lambda image: predict_probability(runner, size, image), pairs, dataset.names
        )
    return result.mean_dice, f"{data.name}, {len(pairs)} validation images"


def enter(variant: str, folder: Path, data: Path, url: str | None) -> list[Entry]:
    """Return the entries of a variant's two files."""
    checkpoint, model = folder / checkpoint_name(variant), folder / onnx_name(variant)
    training = load_model(checkpoint)[1].training
    dice, measured_on = measure(model, data)
    return [
        Entry(
            path.name,
            variant,
            path.stat().st_size,
            file_sha256(path),
            training,
            dice,
            measured_on,
            f"{url.rstrip('/')}/{path.name}" if url else None,
        )
        for path in (checkpoint, model)
    ]


def ship(options: argparse.Namespace) -> list[Entry]:
    """Write the files, if weights are given, and return the entries of all that are there.

    Raises:
        RwkvEdgeError: as its message says; what lay there before is then as it was.
    """
    load_dataset(options.data).pairs("val")  # before anything is written
    if not options.weights:
        variants = [v for v in VARIANTS if (options.output / checkpoint_name(v)).is_file()]
        found = [enter(v, options.output, options.data, options.url) for v in variants]
        return [entry for entries in found for entry in entries]
    make_folder(options.output)
    with tempfile.TemporaryDirectory(dir=options.output) as name:
        aside = Path(name)
        variant = export(options.weights, options.training, aside)
        entries = enter(variant, aside, options.data, options.url)
        for entry in entries:
            (aside / entry.name).replace(options.output / entry.name)
    return entries


def main() -> None:
    """Write the files, if weights are given, and the registry."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", type=Path, nargs="?")
    parser.add_argument("--training", help="data and recipe, in a sentence")
    parser.add_argument("--data", type=Path, required=True, help="with validation images")
    parser.add_argument("--output", type=Path, default=FOLDER, help="default: the package")
    parser.add_argument("--url", help="the folder of the release that will hold the files")
    options = parser.parse_args()
    if options.weights and not options.training:
        parser.error("--training is missing")
    try:
        entries = ship(options)
    except RwkvEdgeError as error:
        sys.exit(f"error: {error}")
    for entry in entries:
        print(f"{entry.name}: {entry.size / 1e6:.1f} MB, sha256 {entry.sha256}, Dice {entry.dice}")
    names = {entry.name for entry in entries}
    others = [entry for entry in load_registry() if entry.name not in names]
    save_registry(sorted(others + entries, key=lambda e: (VARIANTS.index(e.variant), e.name)))


if __name__ == "__main__":
    main()
