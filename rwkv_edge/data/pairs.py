"""Finding images and their masks on disk, and reporting every problem at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import yaml

from rwkv_edge.config import MASK_THRESHOLD
from rwkv_edge.data.folders import IMAGE_FOLDERS, MASK_FOLDERS, by_stem, natural, pair_folders
from rwkv_edge.data.layouts import find_layout, listed, listed_names
from rwkv_edge.data.reading import IMAGE_SUFFIXES, changes_levels, read_image, read_mask
from rwkv_edge.data.slices import SLICE_SUFFIXES, Window, read_slice, slice_files
from rwkv_edge.data.spec import class_names, grey_window
from rwkv_edge.errors import DataError
from rwkv_edge.preprocess import UInt8Array

SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "val": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}
_VOLUMES = "volumes"
LOSSY_NOISE = 15
"""Highest level that JPEG or WebP leave of a mask without a lesion."""
SHOWN_PROBLEMS = 20


@dataclass(frozen=True)
class Pair:
    """An image and its mask; a slice of a volume is one file that holds both."""

    image: Path
    mask: Path
    window: Window | None = None
    """Of a slice, as in `read_slice`."""

    @property
    def name(self) -> str:
        """The image's file name."""
        return self.image.name


@dataclass(frozen=True)
class DataSet:
    """Pairs by split, and the classes of their masks.

    `names` holds the foreground class alone for binary masks (grey, threshold 127). For several
    classes it starts with the background, and masks hold indices into it.
    """

    splits: dict[str, list[Pair]]
    names: tuple[str, ...] = ("polyp",)
    path: Path = field(default=Path())
    volumes: tuple[Path, ...] = ()
    """Whole volumes to test on, where the pairs are slices."""
    window: Window | None = None
    """Of the volumes, as in `read_slice`."""

    @property
    def num_classes(self) -> int:
        """Planes of logits that a model for this data set needs."""
        return len(self.names)

    def pairs(self, *wanted: str) -> list[Pair]:
        """Return the pairs of the first of the `wanted` splits that exists.

        Raises:
            DataError: none of them exists.
        """
        return self.splits[self.first(*wanted)]

    def first(self, *wanted: str) -> str:
        """Return the name of the first of the `wanted` splits that exists.

        Raises:
            DataError: none of them exists.
        """
        for split in wanted:
            if self.splits.get(split):
                return split
        have = ", ".join(self.splits) or "none"
        raise DataError(f"{self.path}: no '{wanted[0]}' split (found: {have})")


def load_dataset(path: Path) -> DataSet:
    """Read a data set: a YAML file, a folder of splits, one of pairs ('all'), or of volumes.

    The YAML has the keys `train`, `val`, `test`, `volumes` (any of them), `path` and `names`. A
    split is a folder of pairs or slices below `path`, or a `.txt` list, beside the YAML, of image
    names in `path`, as `rwkv-edge split` writes it. `volumes` is a folder, `levels` the window of
    slices and volumes. `path` is relative to the YAML.

    Raises:
        DataError: nothing usable there, or images and masks that do not match; lists all problems.
    """
    if path.is_file() and path.suffix in (".yaml", ".yml"):
        return _load_yaml(path)
    if not path.is_dir():
        raise DataError(
            f"{path}: no such data set; give a folder with images/ and masks/ or a YAML"
        )
    if pair_folders(path):
        return DataSet({"all": find_pairs(path)}, path=path)
    places = {}
    for split, names in SPLIT_FOLDERS.items():
        folders = [path / name for name in names if (path / name).is_dir()]
        if folders:
            places[split] = folders[0]
    # a stray array beside pictures makes no volume-slice set
    if not any(pair_folders(place) for place in places.values()):
        layout = find_layout(path)
        if layout:
            slices = {split: _pairs_of(files) for split, files in layout.splits.items() if files}
            return DataSet(slices, layout.names, path, layout.volumes)
    found = {split: _match(place) for split, place in places.items()}
    if not found:
        raise DataError(
            f"{path}: found neither images/ with masks/ nor train/ and validation/ in it"
        )
    return DataSet(_raise_or_keep(path, found), path=path)


def find_pairs(folder: Path) -> list[Pair]:
    """Match images and masks by stem, any suffix, in natural order of their names.

    Raises:
        DataError: no such folders, no images, images without a mask, masks without an image, or two
            files of one stem.
    """
    return _raise_or_keep(folder, {"all": _match(folder)})["all"]


def raise_problems(path: Path, problems: list[str]) -> None:
    """Raise one DataError that lists all `problems`; do nothing if there are none."""
    if not problems:
        return
    if len(problems) == 1:
        raise DataError(problems[0])
    shown = "\n  ".join(problems[:SHOWN_PROBLEMS])
    more = len(problems) - SHOWN_PROBLEMS
    rest = f"\n  and {more} more" if more > 0 else ""
    raise DataError(f"{path}: {len(problems)} problems\n  {shown}{rest}")


def read_pair(pair: Pair, num_classes: int = 1) -> tuple[UInt8Array, UInt8Array]:
    """Read an image and its mask.

    A binary mask holds greys, the lesion above 127, or the indices 0 and 1.

    Returns:
        (h, w, 3) uint8 BGR, and (h, w) uint8 class labels: 0 and 1 for a binary mask.

    Raises:
        DataError: unreadable, of different sizes, or with a class index out of range.
    """
    if pair.image.suffix in SLICE_SUFFIXES:
        return read_slice(pair.image, num_classes, pair.window)
    image, mask = read_image(pair.image), read_mask(pair.mask)
    if image.shape[:2] != mask.shape:
        raise DataError(
            f"{pair.mask}: {mask.shape[1]} x {mask.shape[0]} pixels, but its image has "
            f"{image.shape[1]} x {image.shape[0]}"
        )
    if num_classes == 1:
        return image, _binary_labels(mask, pair.mask)
    return image, _class_labels(mask, pair.mask, num_classes)


def _binary_labels(mask: UInt8Array, path: Path) -> UInt8Array:
    highest = int(mask.max())
    if highest == 1:
        return mask
    is_between = 1 < highest <= MASK_THRESHOLD
    if is_between and not (highest <= LOSSY_NOISE and changes_levels(path)):
        raise DataError(
            f"{path}: values up to {highest}, but a binary mask has 0 and 255, or 0 and 1; "
            "for several classes give a YAML with their 'names'"
        )
    return (mask > MASK_THRESHOLD).astype(np.uint8)


def _class_labels(mask: UInt8Array, path: Path, num_classes: int) -> UInt8Array:
    if changes_levels(path):
        raise DataError(f"{path}: JPEG and lossy WebP change class indices; store them as PNG")
    highest = int(mask.max())
    if highest >= num_classes:
        raise DataError(f"{path}: class index {highest}, but there are {num_classes} classes")
    return mask


def read_all(
    pairs: Iterable[Pair],
    num_classes: int,
    keep: Callable[[UInt8Array, UInt8Array], None],
    on_progress: Callable[[], None] | None = None,
) -> None:
    """Read every pair, hand image and mask to `keep`, and report all that fail together.

    Raises:
        DataError: one or more pairs are bad.
    """
    problems = []
    for pair in pairs:
        try:
            keep(*read_pair(pair, num_classes))
        except DataError as error:
            problems.append(str(error))
        if on_progress:
            on_progress()
    raise_problems(Path("data set"), problems)


Matched = tuple[list[Pair], list[str]]
"""The pairs of a split, and what is wrong with its files."""


def _load_yaml(path: Path) -> DataSet:
    try:
        spec = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())  # PyYAML draws over several lines
        raise DataError(f"{path}: cannot be read as YAML ({reason})") from error
    if not isinstance(spec, dict) or not any(spec.get(key) for key in (*SPLIT_FOLDERS, _VOLUMES)):
        raise DataError(f"{path}: needs at least one of the keys train, val, test, volumes")
    for key in ("path", _VOLUMES, *SPLIT_FOLDERS):
        if not isinstance(spec.get(key, ""), str | None):
            raise DataError(f"{path}: '{key}' must be the name of a folder or file")
    names = class_names(spec.get("names", ["polyp"]), path)
    root = path.parent / (spec.get("path") or ".")
    found: dict[str, Matched] = {}
    for split in SPLIT_FOLDERS:
        place = spec.get(split)
        if not place:
            continue
        is_list = place.endswith(".txt")
        key, folder = ("path", root) if is_list else (split, root / place)
        if not folder.is_dir():
            found[split] = [], [f"{path}: '{key}' names {folder}, and there is no such folder"]
        else:
            found[split] = _match_listed(path.parent / place, root) if is_list else _match(folder)
    volumes = spec.get(_VOLUMES) and slice_files(root / spec[_VOLUMES])
    if volumes == []:
        raise DataError(f"{path}: no .npz or .h5 files in {root / spec[_VOLUMES]}")
    window = grey_window(spec.get("levels"), path)
    splits = {
        split: [replace(pair, window=window) for pair in pairs]
        for split, pairs in _raise_or_keep(path, found).items()
    }
    return DataSet(splits, names, path, tuple(volumes or ()), window)


def _pairs_of(slices: list[Path]) -> list[Pair]:
    return [Pair(file, file) for file in slices]


def _match_listed(listing: Path, folder: Path) -> Matched:
    try:
        if slice_files(folder) and not pair_folders(folder):
            return _pairs_of(listed(listing, folder)), []
        lines = listed_names(listing)
    except DataError as error:
        return [], [str(error)]
    pairs, problems = _match(folder)
    by_name = {pair.name: pair for pair in pairs}
    names = [line if line in by_name else line.strip() for line in lines]
    if not problems:
        problems = [f"{listing}: no image {n} in {folder}" for n in names if n not in by_name]
    return [by_name[name] for name in names if name in by_name], problems


def _match(folder: Path) -> Matched:
    if not folder.is_dir():
        return [], [f"{folder}: no such folder"]
    found = pair_folders(folder)
    if not found:
        if slices := slice_files(folder):
            return _pairs_of(slices), []
        return [], [
            f"{folder}: needs a folder of images ({', '.join(IMAGE_FOLDERS[:2])}) beside one of "
            f"masks ({', '.join(MASK_FOLDERS[:2])})"
        ]
    problems: list[str] = []
    images, masks = (by_stem(part, problems) for part in found)
    if not images and not problems:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        return [], [f"{found[0]}: no images in it ({suffixes})"]
    problems += [f"{images[s]}: has no mask in {found[1]}" for s in images if s not in masks]
    problems += [f"{masks[s]}: has no image in {found[0]}" for s in masks if s not in images]
    stems = sorted(images.keys() & masks.keys(), key=natural)
    return [Pair(images[stem], masks[stem]) for stem in stems], problems


def _raise_or_keep(path: Path, found: dict[str, Matched]) -> dict[str, list[Pair]]:
    problems = [problem for _, wrong in found.values() for problem in wrong]
    raise_problems(path, list(dict.fromkeys(problems)))
    return {split: pairs for split, (pairs, _) in found.items()}
