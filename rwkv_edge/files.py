"""Writing files whole or not at all: to a temporary name beside the target, then renamed."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rwkv_edge.errors import OutputError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; rename it to `target` if the block succeeds.

    The temporary name keeps the suffix, so that libraries which look at it still do. Missing parent
    folders are created.

    Raises:
        OutputError: the folder cannot be created or written.
    """
    folder = make_folder(target.parent)
    try:
        handle, name = tempfile.mkstemp(prefix=".", suffix=target.suffix, dir=folder)
        os.close(handle)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
    temporary = Path(name)
    try:
        yield temporary
        # last, because safetensors puts a private file of its own in the place of ours
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def make_folder(folder: Path) -> Path:
    """Create `folder` with its parents and check that files can be made in it.

    Raises:
        OutputError: it cannot be created, is a file, or is read-only.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot create {folder}: {reason}; choose another folder") from error
    check_writable(folder)
    return folder


def check_writable(folder: Path) -> None:
    """Check, before long work, that `make_folder` will succeed; leaves nothing behind.

    Raises:
        OutputError: it cannot be created, is a file, or is read-only.
    """
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot write into {folder}: {reason}; choose another folder") from error


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_text(target: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all.

    What is not UTF-8 in the name of a file, surrogates in Python, becomes JSON's \\udcXX.
    """
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(target: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    write_text(target, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_image(target: Path, image: NDArray[np.uint8]) -> None:
    """Write (h, w) or (h, w, 3) uint8 BGR in the format of the suffix, whole or not at all.

    Raises:
        OutputError: OpenCV cannot encode it, or the folder cannot be written.
    """
    import cv2  # the other functions serve where OpenCV cannot be loaded

    try:
        good, encoded = cv2.imencode(target.suffix, image)
    except cv2.error:
        good = False
    if not good:
        raise OutputError(f"cannot write {target}: '{target.suffix}' is not a picture format")
    with atomic_path(target) as temporary:
        temporary.write_bytes(encoded.tobytes())


def check_run_name(name: str) -> str:
    """Return `name` if a folder of `runs/<command>` can have it.

    Raises:
        UsageError: it is empty, or leads elsewhere.
    """
    if name in ("", ".", "..") or set(name) & {"/", "\\", "\0"}:
        raise UsageError(f"--name {name!r}: give a plain name, not a path")
    return name


def new_run_folder(command: str, name: str = "exp") -> Path:
    """Create and return `runs/<command>/<name>`, or the first free one of name2, name3 and so on.

    Making the folder is what claims its number, so two runs started together never share one.

    Raises:
        OutputError: it cannot be created.
    """
    parent = make_folder(Path("runs") / command)
    for number in itertools.count(1):
        folder = parent / (name if number == 1 else f"{name}{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise OutputError(f"cannot create {folder}: {error.strerror or error}") from error
        return folder
    raise AssertionError("unreachable: count never ends")
