"""What rounding a slice to 256 grey levels changes: labels from floats beside labels from bytes.

    python benchmarks/slice_levels.py --epochs 20 --json levels.json

Renders slices like abdominal CT in the window of Synapse (400 Hounsfield units in 0..1): organs a
few per cent brighter than what is around them, noise, blur. Trains the U-Net on them as users do,
then segments other slices twice, once with the floats and once with what `eval` gives the network.
Rendered slices are not patients: this shows the size of the effect, not a model's accuracy.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from rwkv_edge.data.slices import read_slice, slice_files, to_planes
from rwkv_edge.metrics import PixelCounts
from rwkv_edge.models import Segmenter, create_model, load_checkpoint
from rwkv_edge.training import TrainSettings, train

CLASSES, SIDE = 4, 64
BODY, CONTRAST, NOISE = 0.45, 0.06, 0.03
"""Of the window: 24 Hounsfield units between neighbouring organs, noise of 12."""


def render(seed: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return a slice (side, side) in 0..1 and its labels."""
    rng = np.random.default_rng(seed)
    label = np.zeros((SIDE, SIDE), np.uint8)
    for k in range(1, CLASSES):
        centre = tuple(int(v) for v in rng.integers(SIDE // 5, SIDE - SIDE // 5, 2))
        axes = tuple(int(v) for v in rng.integers(SIDE // 12, SIDE // 5, 2))
        cv2.ellipse(label, centre, axes, float(rng.uniform(0, 180)), 0, 360, k, -1)
    sharp = (BODY + CONTRAST * label).astype(np.float32)
    image = cv2.GaussianBlur(sharp, (0, 0), 1.0) + rng.normal(0, NOISE, label.shape)
    return image.clip(0, 1).astype(np.float32), label


def write(folder: Path, count: int, first_seed: int) -> None:
    folder.mkdir()
    for index in range(count):
        image, label = render(first_seed + index)
        np.savez(folder / f"case{index:04d}_slice000.npz", image=image, label=label)


@torch.no_grad()
def labels(model: Segmenter, image: NDArray[np.generic]) -> NDArray[np.int64]:
    """Return the most probable class of each pixel; `image` holds 0..255, whole or not."""
    planes = torch.from_numpy(np.repeat(image[:, :, None], 3, axis=2).astype(np.float32))
    found: NDArray[np.int64] = model(planes[None])[0].argmax(0).numpy()
    return found


def dice(predicted: NDArray[np.int64], truth: NDArray[np.uint8]) -> float:
    kinds = range(1, CLASSES)
    return float(np.mean([PixelCounts.of(predicted == k, truth == k).dice for k in kinds]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--train", type=int, default=96, help="slices")
    parser.add_argument("--test", type=int, default=60, help="slices")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "train", options.train, 0)
        write(folder / "val", options.test, 1_000_000)
        names = ["background", *(f"organ {k}" for k in range(1, CLASSES))]
        spec = folder / "set.yaml"
        spec.write_text(f"train: train\nval: val\nnames: {json.dumps(names)}\n")
        settings = TrainSettings(spec, "unet", epochs=options.epochs, imgsz=SIDE, device="cpu")
        weights = train(settings, folder / "run")
        network = create_model("unet", CLASSES)
        load_checkpoint(network, weights)
        model = Segmenter(network).eval()
        changed, floats, rounded = [], [], []
        for path in slice_files(folder / "val"):
            with np.load(path) as file:
                image, truth = file["image"], file["label"]
            levels, _ = read_slice(path, CLASSES)
            assert (levels == to_planes(levels[:, :, 0])).all()
            exact, coarse = labels(model, image * 255), labels(model, levels[:, :, 0])
            changed.append(float((exact != coarse).mean()))
            floats.append(dice(exact, truth))
            rounded.append(dice(coarse, truth))
    found = {
        "slices": len(changed),
        "changed_pixels": float(np.mean(changed)),
        "dice_floats": float(np.mean(floats)),
        "dice_bytes": float(np.mean(rounded)),
        "largest_change_of_dice": float(np.abs(np.subtract(floats, rounded)).max()),
    }
    print("\n".join(f"{key}: {value:.6g}" for key, value in found.items()))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
