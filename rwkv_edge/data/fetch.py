"""A public data set from its address, or from an archive at hand, into our layout."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from rwkv_edge.data.archive import unpack_pairs
from rwkv_edge.data.pairs import find_pairs
from rwkv_edge.data.sources import Source
from rwkv_edge.download import OnBytes, fetch, is_address
from rwkv_edge.errors import DataError, OutputError
from rwkv_edge.files import make_folder, write_text


@dataclass(frozen=True)
class Fetched:
    """A data set that was put in place."""

    images: int
    sha256: str
    """Of the archive."""
    was_checked: bool
    """Against a hash known before."""


def fetch_dataset(
    source: Source, address: str, output: Path, sha256: str | None, on_bytes: OnBytes | None = None
) -> Fetched:
    """Fetch, check and unpack a data set; a new `output` appears whole or not at all.

    Beside images/ and masks/ it gets `SHA256`, as sha256sum writes it, and `LICENCE.txt`.

    Args:
        source: whose licence it is.
        address: of the archive: https, or a path.
        output: the folder; must not exist, or be empty.
        sha256: what the archive's hash must be; None: what the table has, if it has one.
        on_bytes: told of the download's progress.

    Raises:
        DataError: the archive is hostile, damaged, or its images and masks do not match.
        DownloadError: it cannot be had, or is not the file that was meant.
        OutputError: the folder cannot be written.
    """
    expected = sha256 or source.sha256
    name = _archive_name(address)
    whole = output.absolute()
    # on one file system with the output, even if that is a mount
    place = make_folder(whole if whole.is_dir() else whole.parent)
    work = Path(tempfile.mkdtemp(prefix=".fetching-", dir=place))
    try:
        archive = work / "archive" / name
        digest = fetch(address, archive, sha256=expected, on_bytes=on_bytes)
        images = unpack_pairs(archive, work / "data")
        find_pairs(work / "data")  # every image has its mask
        write_text(work / "data" / "SHA256", f"{digest}  {name}\n")
        write_text(
            work / "data" / "LICENCE.txt", f"{source.title}\n{source.page}\n{source.licence}\n"
        )
        if whole.is_dir():
            # filled, not replaced: it may be the folder that the user's shell is in
            for part in (work / "data").iterdir():
                os.replace(part, whole / part.name)
        else:
            os.replace(work / "data", whole)
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error.strerror or error}") from error
    except (DataError, OutputError) as error:
        raise type(error)(str(error).replace(str(work / "data"), str(output))) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Fetched(images, digest, expected is not None)


def _archive_name(address: str) -> str:
    """Return the file's name: without the query, which may hold a token."""
    path = PurePosixPath(urlsplit(address).path) if is_address(address) else Path(address)
    return path.name or "archive"
