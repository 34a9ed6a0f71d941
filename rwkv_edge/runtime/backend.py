"""Importing TensorRT or TensorRT-RTX, two packages with the same names, and loading the plugin."""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.util
import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rwkv_edge.errors import BackendError
from rwkv_edge.files import file_sha256
from rwkv_edge.operators import DOMAIN, NAMES, VERSION

if TYPE_CHECKING:
    import tensorrt as trt

TENSORRT, TENSORRT_RTX = "tensorrt", "tensorrt-rtx"
_MODULES = {TENSORRT: "tensorrt", TENSORRT_RTX: "tensorrt_rtx"}

_ELF_MACHINES = {62: "x86_64", 183: "aarch64"}
"""The field e_machine of a library's header, by `platform.machine()`."""

_links: list[tempfile.TemporaryDirectory[str]] = []
_loaded: dict[str, str] = {}
"""By backend: the hash of the plugin's library, which cannot be unloaded."""


@dataclass(frozen=True)
class Backend:
    """TensorRT or TensorRT-RTX, imported."""

    name: str
    module: ModuleType
    version: str


def load_backend(name: str) -> Backend:
    """Import TensorRT or TensorRT-RTX.

    Raises:
        BackendError: not installed, or its libraries cannot be loaded.
    """
    if name == TENSORRT_RTX:
        _link_rtx_libraries()
    try:
        module = importlib.import_module(_MODULES[name])
        version = str(module.__version__)
    except (ImportError, OSError, AttributeError) as error:
        raise BackendError(
            f"{name} cannot be used here ({str(error).splitlines()[0]}); on a Jetson it comes with "
            f"JetPack (a venv needs --system-site-packages), elsewhere: pip install {name}"
        ) from error
    return Backend(name, module, version)


def is_installed(name: str) -> bool:
    """Tell whether a backend's package is here; type stubs alone do not count."""
    spec = importlib.util.find_spec(_MODULES[name])
    return spec is not None and spec.origin is not None


def make_logger(backend: Backend) -> Any:
    """Return a logger that keeps errors for the message instead of printing, with none in it.

    It is the same one each time: TensorRT keeps the first that a process gives it.
    """
    logger = _logger(backend.module)
    logger.errors.clear()
    return logger


@functools.cache
def _logger(module: ModuleType) -> Any:
    class Logger(module.ILogger):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= module.ILogger.Severity.ERROR:
                self.errors.append(" ".join(message.split()))

    return Logger()


def load_plugin(backend: Backend, library: Path) -> None:
    """Register the plugins of a library with TensorRT.

    Raises:
        BackendError: it cannot be loaded, holds another plugin or version, or another build of it
            was loaded before.
    """
    _check_machine(library)
    registry: trt.IPluginRegistry = backend.module.get_plugin_registry()
    sha256 = file_sha256(library)
    if len(_missing(registry)) < len(NAMES):
        if _loaded.get(backend.name, sha256) == sha256:
            return
        raise BackendError(
            f"{library}: this process has loaded another build of the plugin, and {backend.name} "
            "cannot unload it; start the program again"
        )
    try:
        handle = registry.load_library(str(library))
    except (RuntimeError, OSError) as error:
        raise BackendError(f"{library}: {error}; rwkv-edge plugin build makes it anew") from error
    missing = _missing(registry)
    if handle is None or missing:
        raise BackendError(
            f"{library}: {backend.name} {backend.version} finds no {(missing or NAMES)[0]} version "
            f"{VERSION} in it; rwkv-edge plugin build makes it anew"
        )
    _loaded[backend.name] = sha256


def _check_machine(library: Path) -> None:
    """Raise BackendError for a library of another processor: copied from a PC to a Jetson, say."""
    with library.open("rb") as file:
        header = file.read(20)
    made_for = _ELF_MACHINES.get(int.from_bytes(header[18:20], "little"), "another processor")
    here = platform.machine()
    if header[:4] == b"\x7fELF" and here in _ELF_MACHINES.values() and made_for != here:
        raise BackendError(
            f"{library}: compiled for {made_for}, this machine is {here}; compile it here with "
            "rwkv-edge plugin build"
        )


def _missing(registry: trt.IPluginRegistry) -> list[str]:
    """Return which of our plugins TensorRT does not know."""
    return [name for name in NAMES if registry.get_creator(name, VERSION, DOMAIN) is None]


def _link_rtx_libraries() -> None:
    """Give TensorRT-RTX's ONNX parser the library name that it looks for and its wheel lacks.

    The parser opens libtensorrt_rtx.so in its own folder and kills the process when only
    libtensorrt_rtx.so.1 is there. Loaded through a link in a folder that has both names, it finds
    it; site-packages stay untouched.
    """
    spec = importlib.util.find_spec("tensorrt_rtx_libs")
    if spec is None or spec.origin is None or _links:
        return
    libraries = Path(spec.origin).parent
    parser, core = "libtensorrt_onnxparser_rtx.so.1", "libtensorrt_rtx.so"
    if (libraries / core).exists() or not (libraries / parser).exists():
        return
    folder = tempfile.TemporaryDirectory(prefix="rwkv-edge-tensorrt-rtx-")
    _links.append(folder)  # until the process ends: the parser opens it when it is first used
    (Path(folder.name) / parser).symlink_to(libraries / parser)
    (Path(folder.name) / core).symlink_to(libraries / f"{core}.1")
    ctypes.CDLL(str(Path(folder.name) / parser))
