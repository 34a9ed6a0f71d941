"""Where this user's exported models, compiled kernels and engines are kept."""

from __future__ import annotations

import os
from pathlib import Path

from rwkv_edge.errors import OutputError


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
