"""Small zip archives, good and hostile."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import cv2

from tests.data.pictures import disc, picture


def png(kind: str) -> bytes:
    good, encoded = cv2.imencode(".png", picture() if kind == "image" else disc())
    assert good
    return bytes(encoded.tobytes())


def pairs(root: str = "Kvasir-SEG/", masks: str = "masks", names: str = "ab") -> dict[str, bytes]:
    """The members of an archive of pairs, as Simula's are laid out."""
    members = {f"{root}images/{name}.png": png("image") for name in names}
    members |= {f"{root}{masks}/{name}.png": png("mask") for name in names}
    return {**members, f"{root}bounding-boxes.json": b"{}", "__MACOSX/images/._a.png": b"x"}


def write_zip(
    path: Path,
    members: dict[str, bytes],
    link: str | None = None,
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            file.writestr(info, "/etc/passwd")
    return path
