"""What the YAML of a data set says of its classes and grey levels, checked."""

from __future__ import annotations

from math import isfinite
from pathlib import Path

from rwkv_edge.data.slices import Window
from rwkv_edge.errors import DataError

BACKGROUND = "background"
_SPELLINGS = frozenset({BACKGROUND, "bg", "_background_"})
"""Of the background's name in small letters, as tools for annotation write it."""


def class_names(names: object, path: Path) -> tuple[str, ...]:
    """Return what the key `names` says, as in `DataSet`.

    Raises:
        DataError: no list of names.
    """
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise DataError(f"{path}: 'names' must list the classes, or number them from 0")
    if any("," in name for name in names):
        raise DataError(f"{path}: 'names' with a comma cannot be kept in exported models")
    first, *others = names
    if first.lower() in _SPELLINGS and others:
        return (BACKGROUND, *others) if len(others) > 1 else (others[0],)
    return (BACKGROUND, *names) if others else (first,)


def grey_window(levels: object, path: Path) -> Window | None:
    """Return what the key `levels` says; None: nothing.

    Raises:
        DataError: not two numbers.
    """
    if levels is None:
        return None
    try:
        low, high = (float(level) for level in levels)  # type: ignore[attr-defined]
        if isfinite(low) and isfinite(high) and low < high:
            return low, high
    except (TypeError, ValueError):
        pass
    raise DataError(f"{path}: 'levels' must be two numbers, the lower first, as in [-125, 275]")
