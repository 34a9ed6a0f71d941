"""Tiny volume-slice sets in the layouts that circulate, made on the fly."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

Volume = tuple[NDArray[np.float32], NDArray[np.uint8]]


def volume(classes: int = 4, depth: int = 5, side: int = 64, seed: int = 0) -> Volume:
    """Boxes of growing brightness, one a class, that shift from slice to slice, on noise."""
    rng = np.random.default_rng(seed)
    image = rng.uniform(0, 0.1, (depth, side, side)).astype(np.float32)
    label = np.zeros((depth, side, side), np.uint8)
    width = side // classes - 2
    for k in range(1, classes):
        left = (k - 1) * (side // classes) + 2
        top = 4 + seed % 5
        label[:, top : top + side // 2, left : left + width] = k
    return np.where(label > 0, label / classes + image, image).astype(np.float32), label


def write_npz(path: Path, image: NDArray[np.generic], label: NDArray[np.generic], key: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{key: image, "label": label})  # type: ignore[arg-type]
    return path


def write_h5(path: Path, image: NDArray[np.generic], label: NDArray[np.generic]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["image"], file["label"] = image, label
    return path


def write_lists(folder: Path, **lists: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in lists.items():
        (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))


def write_synapse(folder: Path, train: int = 2, test: int = 2) -> Path:
    """As TransUNet lays it out, with a file of each kind that no list names."""
    names: dict[str, list[str]] = {"train": [], "test_vol": []}
    for case in range(train + 1):
        image, label = volume(9, depth=2, side=96, seed=case)
        for index, (grey, truth) in enumerate(zip(image, label, strict=True)):
            name = f"case{case:04d}_slice{index:03d}"
            write_npz(folder / "train_npz" / f"{name}.npz", grey, truth.astype(np.float32), "image")
            names["train"] += [name] if case < train else []
    for case in range(90, 90 + test + 1):
        image, label = volume(9, depth=3, side=96, seed=case)
        write_h5(folder / "test_vol_h5" / f"case{case:04d}.npy.h5", image, label)
        names["test_vol"] += [f"case{case:04d}"] if case < 90 + test else []
    write_lists(folder / "lists_Synapse", **names)
    return folder


def write_acdc(folder: Path) -> Path:
    """As Swin-Unet's ACDC is laid out: arrays `img` and `label`, lists with suffixes."""
    image, label = volume()
    for part in ("train", "valid"):
        names = [f"case_001_sliceED_{index}.npz" for index in range(2)]
        for index, name in enumerate(names):
            write_npz(folder / part / name, image[index], label[index], "img")
        write_lists(folder / "lists_ACDC", **{part: names if part == "train" else names[1:]})
    write_npz(folder / "test" / "case_002_volume_ED.npz", image, label, "img")
    write_lists(folder / "lists_ACDC", test=["case_002_volume_ED.npz"])
    return folder


def write_acdc_h5(folder: Path) -> Path:
    """As RWKV-UNet reads it: .h5 by patient; 1 to 20 test, 21 to 30 validate, the rest train."""
    image, label = volume()
    for patient in (1, 20, 21, 30, 31, 100):
        name = f"patient{patient:03d}_frame01"
        write_h5(folder / "ACDC_training_volumes" / f"{name}.h5", image, label)
        write_h5(folder / "ACDC_training_slices" / f"{name}_slice_0.h5", image[0], label[0])
    return folder
