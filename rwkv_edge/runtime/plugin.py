"""Compiling the TensorRT plugin from its sources, and finding the compiled one again.

A compiled plugin lies in a folder named after the sources' hash, so a changed source is never
served by an old library. Beside it, `librwkv_edge_plugin.json` says what it was made with.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rwkv_edge.compiler import (
    compiler_version,
    failure,
    find_tool,
    last_line,
    sources_folder,
    sources_sha256,
)
from rwkv_edge.errors import BackendError
from rwkv_edge.files import atomic_path, file_sha256, write_json

LIBRARY = "librwkv_edge_plugin.so"
_HEADERS_MISSING = "TensorRT's headers were not found"


@dataclass(frozen=True)
class Plugin:
    """A compiled plugin and what it was made with."""

    library: Path
    sha256: str
    architectures: tuple[str, ...]
    """Compute capabilities without the dot: ('87',)."""
    cuda: str
    """Version of the compiler."""
    headers: str
    """Version of the TensorRT headers."""
    sources: str
    """Hash of the sources."""

    def runs_on(self, architecture: str) -> bool:
        """Tell whether it was compiled for a GPU, '87'; what is compiled when loaded is slow."""
        return architecture in self.architectures


def default_folder(cache: Path) -> Path:
    """Return where the plugin of these sources belongs inside the cache."""
    return cache / f"plugin-{sources_sha256()[:16]}"


def find_plugin(folder: Path) -> Plugin | None:
    """Return the compiled plugin of a folder; None if there is none or its description is not its.

    Args:
        folder: that `build_plugin` wrote, or the library in it.
    """
    library = folder / LIBRARY if folder.is_dir() else folder
    try:
        values = json.loads(library.with_suffix(".json").read_text(encoding="utf-8"))
        values["architectures"] = tuple(values["architectures"])
        plugin = Plugin(library.resolve(), **values)
        return plugin if plugin.sha256 == file_sha256(library) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def build_plugin(folder: Path, architectures: Sequence[str], headers: Path | None = None) -> Plugin:
    """Compile the plugin.

    Args:
        folder: where the library goes, whole or not at all.
        architectures: compute capabilities without the dot, for example '87'.
        headers: folder of TensorRT's headers, or of an archive; default: where CMake finds them.

    Raises:
        BackendError: a compiler or TensorRT's headers are missing, or the compiler failed.
        OutputError: the folder cannot be written.
    """
    sources = sources_folder()
    cmake, nvcc = _find("cmake"), _find("nvcc")
    with tempfile.TemporaryDirectory(prefix="rwkv-edge-plugin-") as name:
        build = Path(name)
        options = [
            f"-DCMAKE_CUDA_COMPILER={nvcc}",
            f"-DCMAKE_CUDA_ARCHITECTURES={';'.join(architectures)}",
            *([f"-DTENSORRT_ROOT={headers}"] if headers else []),
        ]
        _run([cmake, "-S", str(sources), "-B", name, *options])
        _run([cmake, "--build", name, "--parallel", str(os.cpu_count() or 1)])
        library = folder / LIBRARY
        with atomic_path(library) as temporary:
            shutil.copyfile(build / LIBRARY, temporary)
            temporary.chmod(0o755)
        plugin = Plugin(
            library.resolve(),
            file_sha256(library),
            tuple(architectures),
            compiler_version(nvcc),
            _headers_version(build / "CMakeCache.txt"),
            sources_sha256(sources),
        )
    values = asdict(plugin)
    del values["library"]  # the folder may be moved
    write_json(library.with_suffix(".json"), values)
    return plugin


def fetch_headers(folder: Path) -> Path:
    """Download NVIDIA's TensorRT headers from the package index, checked against their digest.

    Raises:
        BackendError: no network, or not the reviewed file.
    """
    sources = sources_folder()
    name = "fetch_tensorrt_headers.py"
    script = next(p for p in (sources / name, sources.parent / "tools" / name) if p.is_file())
    done = subprocess.run(
        [sys.executable, str(script), str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise BackendError(f"TensorRT's headers: {last_line(done.stderr)}")
    return folder


def _find(name: str) -> str:
    path = find_tool(name)
    if path is None:
        package = {"cmake": "cmake", "nvcc": "nvidia-cuda-toolkit, or nvidia-jetpack on a Jetson"}
        raise BackendError(
            f"{name} was not found, so the plugin cannot be compiled; install it "
            f"(sudo apt install {package[name]}), or build with --no-plugin"
        )
    return path


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    text = done.stdout + done.stderr
    if _HEADERS_MISSING in text:
        raise BackendError(
            f"{_HEADERS_MISSING}; on a Jetson: sudo apt install libnvinfer-headers-dev, elsewhere "
            "rwkv-edge plugin build --headers DIR, or --fetch-headers to take NVIDIA's from PyPI"
        )
    raise BackendError(f"the plugin does not compile: {failure(text)}")


def _headers_version(cache: Path) -> str:
    """Read the version of the headers that CMake found."""
    found = re.search(r"^TENSORRT_INCLUDE_DIR:PATH=(.+)$", cache.read_text(), re.MULTILINE)
    if found is None:
        return "unknown"
    text = (Path(found[1]) / "NvInferVersion.h").read_text()
    parts = [
        re.search(rf"#define (?:NV_TENSORRT|TRT)_{part}(?:_ENTERPRISE)? (\d+)", text)
        for part in ("MAJOR", "MINOR", "PATCH")
    ]
    return ".".join(part[1] for part in parts if part) or "unknown"
