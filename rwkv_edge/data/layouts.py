"""Volume-slice sets as they circulate: which files of a folder are slices, and which volumes.

    Synapse    train_npz/caseNNNN_sliceNNN.npz, test_vol_h5/caseNNNN.npy.h5; lists_Synapse/
    ACDC       train/, valid/ with slices and test/ with volumes, .npz; lists_ACDC/ (Swin-Unet)
    ACDC       ACDC_training_slices/, ACDC_training_volumes/, .h5, divided by patient (RWKV-UNet)

Lists are optional: without one, every file of the folder counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rwkv_edge.data.slices import bare_name, slice_files
from rwkv_edge.errors import DataError

SYNAPSE = (
    "background",
    "aorta",
    "gallbladder",
    "left kidney",
    "right kidney",
    "liver",
    "pancreas",
    "spleen",
    "stomach",
)
ACDC = ("background", "right ventricle", "myocardium", "left ventricle")
_TEST_PATIENTS, _VAL_PATIENTS = range(1, 21), range(21, 31)


@dataclass(frozen=True)
class Layout:
    """What a folder holds."""

    splits: dict[str, list[Path]]
    """Slices by split."""
    volumes: tuple[Path, ...]
    """To test on."""
    names: tuple[str, ...]
    """The classes, the background first."""


def find_layout(folder: Path) -> Layout | None:
    """Recognise a volume-slice set; None: it is none.

    Raises:
        DataError: a list names files that are not there, or a folder is empty.
    """
    for recognise in (_slices_alone, _synapse, _acdc_npz, _acdc_h5):
        layout = recognise(folder)
        if layout is not None:
            if not layout.volumes and not any(layout.splits.values()):
                raise DataError(f"{folder}: no .npz or .h5 files in its folders")
            return layout
    return None


def listed_names(listing: Path) -> list[str]:
    """Return what a list names, one to a line, blanks around it included.

    Raises:
        DataError: it cannot be read.
    """
    try:
        # file names need not be UTF-8; Python holds their odd bytes as surrogates
        lines = listing.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    except OSError as error:
        raise DataError(f"{listing}: cannot be read ({error})") from error
    return [line for line in lines if line.strip()]


def listed(listing: Path, folder: Path) -> list[Path]:
    """Return the files of a folder that a list names, with or without their suffix.

    Raises:
        DataError: the list cannot be read, or names a file that is not there.
    """
    files = {bare_name(file): file for file in slice_files(folder)}
    names = [bare_name(Path(line.strip())) for line in listed_names(listing)]
    missing = [name for name in names if name not in files]
    if missing:
        raise DataError(f"{listing}: {len(missing)} files are not in {folder}, as {missing[0]}")
    return [files[name] for name in names]


def _slices_alone(folder: Path) -> Layout | None:
    if folder.name != "train_npz" or not slice_files(folder):
        return None
    return Layout({"all": slice_files(folder)}, (), SYNAPSE)


def _synapse(folder: Path) -> Layout | None:
    slices, volumes = folder / "train_npz", folder / "test_vol_h5"
    if not slices.is_dir() and not volumes.is_dir():
        return None
    lists = _lists(folder, "lists_Synapse")
    train = _files(slices, lists, "train")
    return Layout({"train": train}, tuple(_files(volumes, lists, "test_vol")), SYNAPSE)


def _acdc_npz(folder: Path) -> Layout | None:
    parts = {"train": folder / "train", "val": folder / "valid", "test": folder / "test"}
    if not any(slice_files(part) for part in parts.values()):
        return None
    lists = _lists(folder, "lists_ACDC")
    found = {split: _files(part, lists, part.name) for split, part in parts.items()}
    return Layout({k: found[k] for k in ("train", "val")}, tuple(found["test"]), ACDC)


def _acdc_h5(folder: Path) -> Layout | None:
    slices, volumes = folder / "ACDC_training_slices", folder / "ACDC_training_volumes"
    if not slices.is_dir() and not volumes.is_dir():
        return None
    by_split = {
        "train": _of_patients(slices, lambda n: n not in _TEST_PATIENTS and n not in _VAL_PATIENTS),
        "val": _of_patients(slices, lambda n: n in _VAL_PATIENTS),
    }
    return Layout(by_split, tuple(_of_patients(volumes, lambda n: n in _TEST_PATIENTS)), ACDC)


def _of_patients(folder: Path, wanted: Callable[[int], bool]) -> list[Path]:
    numbered = ((re.match(r"patient(\d+)", file.name), file) for file in slice_files(folder))
    return [file for found, file in numbered if found and wanted(int(found[1]))]


def _lists(folder: Path, name: str) -> Path | None:
    places = (folder / name, folder / "lists" / name)
    return next((place for place in places if place.is_dir()), None)


def _files(folder: Path, lists: Path | None, name: str) -> list[Path]:
    listing = lists and lists / f"{name}.txt"
    if listing and listing.is_file() and folder.is_dir():
        return listed(listing, folder)
    return slice_files(folder)
