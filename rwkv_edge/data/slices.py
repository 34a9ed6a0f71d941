"""Slices and volumes as TransUNet stores them: a grey image and its labels in one .npz or .h5 file.

Images lie in 0..1, unless a window is given. The network takes 8 bits, so they are rounded to 256
levels; of Synapse's window of 400 Hounsfield units a level is 1.6 of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rwkv_edge.errors import DataError, MissingDependencyError, RwkvEdgeError
from rwkv_edge.preprocess import MIN_SIDE, UInt8Array

SLICE_SUFFIXES = frozenset({".npz", ".h5"})
"""`caseNNNN.npy.h5` included: it ends in .h5."""
_IMAGE_KEYS, _LABEL_KEYS = ("image", "img"), ("label",)
_LEVELS = 255
_TOLERANCE = 1e-3
"""By which rounding may leave 0..1."""

Arrays = tuple[UInt8Array, UInt8Array]
"""Grey levels and class labels, of one shape."""
Window = tuple[float, float]
"""The values that become black and white; what lies outside is cut off."""


def slice_files(folder: Path) -> list[Path]:
    """Return the .npz and .h5 files of a folder by name; none if there is no such folder."""
    try:
        files = sorted(folder.iterdir())
    except OSError:
        return []
    return [f for f in files if f.suffix in SLICE_SUFFIXES and not f.name.startswith(".")]


def bare_name(path: Path) -> str:
    """Return the name as lists have it: without .npz, .h5 or .npy.h5."""
    return path.name.removesuffix(".npz").removesuffix(".h5").removesuffix(".npy")


def read_slice(path: Path, num_classes: int, window: Window | None = None) -> Arrays:
    """Read one slice.

    Args:
        path: of the file.
        num_classes: as in `read_pair`.
        window: of values that are no uint8; None: 0..1, and nothing may lie outside.

    Returns:
        (h, w, 3) uint8, three equal planes, and (h, w) uint8 class labels.

    Raises:
        DataError: unreadable, or not such a file; the message names it.
        MissingDependencyError: h5py is not installed.
    """
    image, label = _read(path, num_classes, window, 2)
    return to_planes(image), label


def read_volume(path: Path, num_classes: int, window: Window | None = None) -> Arrays:
    """Read a volume: (slices, h, w) uint8 grey levels, and as many class labels.

    Args, Raises: as `read_slice`.
    """
    return _read(path, num_classes, window, 3)


def to_planes(grey: UInt8Array) -> UInt8Array:
    """Repeat (h, w) grey levels into the three equal planes that the network takes."""
    return np.repeat(grey[:, :, None], 3, axis=2)


def require_h5py(path: Path) -> None:
    """Raise MissingDependencyError if `path` is HDF5 and h5py is not installed."""
    if path.suffix == ".h5":
        _h5py(path)


def _h5py(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError("h5py", "volumes", f"reading {path.name}") from error
    return h5py


def _read(path: Path, num_classes: int, window: Window | None, dimensions: int) -> Arrays:
    try:
        image, label = _stored(path)
        if image.shape != label.shape:
            raise DataError(f"image of shape {image.shape}, but label of shape {label.shape}")
        if image.ndim != dimensions:
            kind = "a slice has 2" if dimensions == 2 else "a volume has 3"
            raise DataError(f"{image.ndim} dimensions, but {kind}")
        if image.size == 0 or min(image.shape[-2:]) < MIN_SIDE:
            raise DataError(f"shape {image.shape}; at least {MIN_SIDE} x {MIN_SIDE} are needed")
        return _levels(image, window), _labels(label, num_classes)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _stored(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    is_hdf5 = path.suffix == ".h5"
    try:
        with _h5py(path).File(path, "r") if is_hdf5 else np.load(path, allow_pickle=False) as file:
            return _named(file, _IMAGE_KEYS), _named(file, _LABEL_KEYS)
    except RwkvEdgeError:
        raise
    except MemoryError as error:
        raise DataError("its arrays do not fit into memory; it may be damaged") from error
    except Exception as error:  # NumPy, zipfile and h5py raise many types on damaged files
        kind = "HDF5" if is_hdf5 else ".npz"
        raise DataError(_reason(error, f"not an {kind} file, or damaged")) from error


def _named(file: Any, keys: tuple[str, ...]) -> NDArray[Any]:
    for key in keys:
        if key in file:
            stored = file[key]
            # HDF5 has groups, too, and reads a set of data once asked for its values
            values = stored[()] if hasattr(stored, "shape") else None
            if not isinstance(values, np.ndarray):
                raise DataError(f"'{key}' in it is no array")
            return values
    raise DataError(f"no array '{keys[0]}' in it (found: {', '.join(file) or 'none'})")


def _reason(error: Exception, otherwise: str) -> str:
    return (isinstance(error, FileNotFoundError) and error.strerror) or otherwise


def _levels(image: Any, window: Window | None) -> UInt8Array:
    if image.dtype == np.uint8:
        levels: UInt8Array = image
        return levels
    if image.dtype.kind not in "fiu":
        raise DataError(f"an image of type {image.dtype}; float32 in 0..1 is needed")
    low, high = float(image.min()), float(image.max())
    black, white = window or (0.0, 1.0)
    finite = np.isfinite(low) and np.isfinite(high)
    if not finite or (not window and (low < -_TOLERANCE or high > 1 + _TOLERANCE)):
        raise DataError(
            f"values from {low:g} to {high:g} instead of 0 to 1; name the two that become black "
            "and white in a YAML: levels: [LOW, HIGH]"
        )
    scaled = (image.astype(np.float32) - black) / (white - black)
    levels = np.rint(scaled.clip(0, 1) * _LEVELS).astype(np.uint8)
    return levels


def _labels(label: NDArray[Any], num_classes: int) -> UInt8Array:
    if label.dtype.kind not in "biuf":
        raise DataError(f"labels of type {label.dtype}; class indices are needed")
    whole = label.dtype.kind != "f" or bool((label == np.rint(label)).all())
    classes = max(2, num_classes)
    if not whole or not 0 <= label.min() <= label.max() < classes:
        raise DataError(
            f"labels from {label.min():g} to {label.max():g}; whole numbers from 0 to "
            f"{classes - 1} are needed for {classes} classes"
        )
    return label.astype(np.uint8)
