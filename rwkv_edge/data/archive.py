"""Unpacking a zip archive of images and masks, none of whose names or sizes is trusted."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rwkv_edge.data.folders import IMAGE_FOLDERS, MASK_FOLDERS
from rwkv_edge.data.reading import IMAGE_SUFFIXES
from rwkv_edge.errors import DataError
from rwkv_edge.files import make_folder

MAX_BYTES, MAX_FILES = 8 << 30, 200_000
"""Of what an archive unpacks to."""


@dataclass(frozen=True)
class _Picture:
    member: zipfile.ZipInfo
    target: str
    """Below the folder to fill: images/NAME or masks/NAME."""


def unpack_pairs(archive: Path, folder: Path) -> int:
    """Fill `folder` with the images/ and masks/ of an archive, wherever in it they lie.

    The archive is refused as a whole if any member has an absolute path, climbs out with '..', is a
    link or is encrypted, or if it unpacks to more than `MAX_BYTES`. Nothing but pictures is taken.

    Returns:
        The number of images.

    Raises:
        DataError: not a zip, damaged, hostile, or without one folder of images beside one of masks.
        OutputError: the folder cannot be written.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            members = [member for member in file.infolist() if not member.is_dir()]
            for member in members:
                _check(member)
            if len(members) > MAX_FILES or sum(m.file_size for m in members) > MAX_BYTES:
                raise DataError(f"unpacks to more than {MAX_FILES} files or {MAX_BYTES} bytes")
            pictures = _pictures(members)
            for part in ("images", "masks"):
                make_folder(folder / part)
            for picture in pictures:
                # zipfile stops at the size that was just counted, and checks the sum
                target = folder / picture.target
                with file.open(picture.member) as packed, target.open("xb") as out:
                    shutil.copyfileobj(packed, out)
    except DataError as error:
        raise DataError(f"{archive.name}: {error}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DataError(f"{archive.name}: not a zip archive, or damaged ({error})") from error
    return sum(picture.target.startswith("images/") for picture in pictures)


def _check(member: zipfile.ZipInfo) -> None:
    name = member.filename.replace("\\", "/")
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise DataError(f"'{member.filename}' would be written outside the folder; not unpacked")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise DataError(f"'{member.filename}' is a link or a device; not unpacked")
    if member.flag_bits & 1:
        raise DataError(f"'{member.filename}' is encrypted")


def _pictures(members: list[zipfile.ZipInfo]) -> list[_Picture]:
    by_folder: dict[PurePosixPath, list[zipfile.ZipInfo]] = {}
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
        if not hidden and path.suffix.lower() in IMAGE_SUFFIXES:
            by_folder.setdefault(path.parent, []).append(member)
    found = [
        (folder, folder.parent / masks)
        for folder in by_folder
        for masks in MASK_FOLDERS
        if folder.name in IMAGE_FOLDERS and folder.parent / masks in by_folder
    ]
    if len(found) != 1:
        raise DataError(
            f"{len(found)} folders of images beside masks in it, instead of 1; unpack it and "
            "arrange images/ and masks/ yourself"
        )
    return [
        _Picture(member, f"{part}/{PurePosixPath(member.filename.replace(chr(92), '/')).name}")
        for part, folder in zip(("images", "masks"), found[0], strict=True)
        for member in by_folder[folder]
    ]
