"""The CUDA sources of this installation, and the tools that compile them."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

from rwkv_edge.errors import BackendError
from rwkv_edge.files import file_sha256

_PACKAGE = Path(__file__).resolve().parent
_SOURCE_FOLDERS = (_PACKAGE / "_plugins", _PACKAGE.parent / "plugins")
"""Inside an installed wheel, and in a checkout."""
_SOURCE_PARTS = ("bi_wkv", "common", "shift_mix")
"""What a build reads in there, beside CMakeLists.txt."""
_SHOWN_LINES = 3


def sources_folder() -> Path:
    """Return the folder with the plugin's CMakeLists.txt.

    Raises:
        BackendError: this installation has none.
    """
    for folder in _SOURCE_FOLDERS:
        if (folder / "CMakeLists.txt").is_file():
            return folder
    raise BackendError("this installation lacks the plugin's sources; install rwkv-edge again")


def sources_sha256(folder: Path | None = None) -> str:
    """Return one hash over the names and contents of all files that a build reads."""
    folder = folder or sources_folder()
    total = hashlib.sha256()
    parts = [path for part in _SOURCE_PARTS for path in (folder / part).iterdir()]
    for path in sorted([folder / "CMakeLists.txt", *parts]):
        if path.suffix != ".md":
            name = path.relative_to(folder).as_posix()
            total.update(f"{name} {file_sha256(path)}\n".encode())
    return total.hexdigest()


def find_tool(name: str) -> str | None:
    """Return the path of a build tool: of $CUDA_HOME, the PATH, or CUDA's usual place."""
    home = os.environ.get("CUDA_HOME")
    places = [str(Path(home) / "bin")] if home else []
    places += [os.environ.get("PATH", os.defpath), "/usr/local/cuda/bin"]
    return shutil.which(name, path=os.pathsep.join(places))


def compiler_version(nvcc: str) -> str:
    """Return the release that nvcc names, for example '13.0'."""
    done = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"release ([\d.]+)", done.stdout)
    return found[1] if found else "unknown"


def failure(output: str) -> str:
    """Return, in one line, what a failed tool said of the reason."""
    wrong = [line.strip() for line in output.splitlines() if re.search(r"error|Error|fatal", line)]
    return " | ".join(wrong[:_SHOWN_LINES]) or last_line(output)


def last_line(output: str) -> str:
    """Return the last line that a tool printed."""
    return (output.strip().splitlines() or ["no reason given"])[-1]
