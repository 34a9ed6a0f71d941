"""Unpacking a zip archive of images and masks, none of whose names or sizes is trusted."""

from __future__ import annotations

import stat
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rwkv_edge.data.folders import IMAGE_FOLDERS, MASK_FOLDERS
from rwkv_edge.data.reading import IMAGE_SUFFIXES
from rwkv_edge.errors import DataError, OutputError
from rwkv_edge.files import make_folder

MAX_BYTES, MAX_FILES = 8 << 30, 200_000
"""Of what an archive unpacks to."""
_PIECE = 1 << 20


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
        with _reading():
            file = zipfile.ZipFile(archive)
        with file:
            members = [member for member in file.infolist() if not member.is_dir()]
            for member in members:
                _check(member)
            if len(members) > MAX_FILES or sum(m.file_size for m in members) > MAX_BYTES:
                raise DataError(f"unpacks to more than {MAX_FILES} files or {MAX_BYTES} bytes")
            pictures = _pictures(members)
            for part in ("images", "masks"):
                make_folder(folder / part)
            for picture in pictures:
                with (folder / picture.target).open("xb") as out:
                    out.writelines(_pieces(file, picture.member))
    except DataError as error:
        raise DataError(f"{archive.name}: {error}") from error
    except OSError as error:  # of writing: those of reading are DataErrors by now
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error
    return sum(picture.target.startswith("images/") for picture in pictures)


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # zipfile and its decompressors raise many types on damaged files
        reason = str(error) or type(error).__name__
        raise DataError(f"not a zip archive, or damaged ({reason})") from error


def _pieces(file: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yield what a member holds; zipfile stops at the size that it claims, and checks the sum."""
    with _reading(), file.open(member) as packed:
        while piece := packed.read(_PIECE):
            yield piece


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
    pictures = [
        _Picture(member, f"{part}/{PurePosixPath(member.filename.replace(chr(92), '/')).name}")
        for part, folder in zip(("images", "masks"), found[0], strict=True)
        for member in by_folder[folder]
    ]
    target, copies = Counter(picture.target for picture in pictures).most_common(1)[0]
    if copies > 1:
        raise DataError(f"holds {target} {copies} times")
    return pictures
