"""Where this user's exported models, compiled kernels and engines are kept."""

from __future__ import annotations

import os
from pathlib import Path

from rwkv_edge.errors import BackendError, OutputError

_OTHERS_MAY_WRITE = 0o022


def cache_path() -> Path:
    """Return where the folder for what is derived and compiled is, or would be."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "rwkv-edge"


def cache_folder() -> Path:
    """Return the folder for what is derived and compiled, readable by this user alone.

    Raises:
        OutputError: it cannot be created.
    """
    folder = cache_path()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot create {folder}: {error.strerror}") from error
    return folder


def code_cache() -> Path:
    """Return `cache_folder` once it is sure that nobody else can put code into it.

    Raises:
        BackendError: as `require_private`.
        OutputError: it cannot be created.
    """
    folder = cache_folder()
    require_private(folder)
    return folder


def require_private(folder: Path) -> None:
    """Refuse a folder of code that somebody else could have put there.

    Raises:
        BackendError: it belongs to another user, or its group or everybody can write into it.
    """
    status = folder.stat()
    if status.st_uid != os.getuid():
        raise BackendError(
            f"{folder}: belongs to another user, and engines and plugins are code; set "
            "XDG_CACHE_HOME to a folder of your own"
        )
    if status.st_mode & _OTHERS_MAY_WRITE:
        raise BackendError(
            f"{folder}: others can write into it, and engines and plugins are code; delete it, or "
            f"if you trust what is in it: chmod go-w {folder}"
        )
