"""The names that folders of images and masks go by, and the pictures in one."""

from __future__ import annotations

import re
from pathlib import Path

from rwkv_edge.data.reading import IMAGE_SUFFIXES

IMAGE_FOLDERS = ("images", "Original", "image", "imgs")
MASK_FOLDERS = ("masks", "Ground Truth", "mask", "GroundTruth", "labels")


def pair_folders(folder: Path) -> tuple[Path, Path] | None:
    """Return the folders of images and of masks in `folder`; None: there are none."""
    for image_name, mask_name in ((i, m) for i in IMAGE_FOLDERS for m in MASK_FOLDERS):
        if (folder / image_name).is_dir() and (folder / mask_name).is_dir():
            return folder / image_name, folder / mask_name
    return None


def by_stem(folder: Path, problems: list[str]) -> dict[str, Path]:
    """Return the pictures of a folder, hidden files aside; macOS leaves `._name.png` everywhere."""
    try:
        files = sorted(folder.iterdir())
    except OSError as error:
        problems.append(f"{folder}: {error.strerror or error}")
        return {}
    found: dict[str, Path] = {}
    for file in files:
        if file.name.startswith(".") or file.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        if file.stem in found:
            problems.append(f"{file}: has the stem of {found[file.stem].name}; keep one of them")
        found[file.stem] = file
    return found


def natural(stem: str) -> list[str | int]:
    """Sort frame2 before frame10: words and numbers alternate, so like meets like."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", stem)]
