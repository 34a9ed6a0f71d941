"""GPU, CUDA, TensorRT, the plugin and the engines: what is here and whether it fits together."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rwkv_edge.cache import require_private
from rwkv_edge.config import ENGINE_SUFFIXES
from rwkv_edge.doctor.finding import Finding
from rwkv_edge.doctor.jetson import is_jetson
from rwkv_edge.errors import BackendError

_OLDEST_TENSORRT = (10, 3)


def gpu(root: Path) -> Iterator[Finding]:
    """Ask the CUDA driver; none is fine, a driver that finds nothing is not."""
    from rwkv_edge.runtime.machine import find_gpu

    found = find_gpu()
    if found is not None:
        driver = f"driver {found.driver}, " if found.driver else ""
        reason = f"compute capability {found.compute_capability}, {driver}CUDA up to {found.cuda}"
        yield Finding("GPU", "ok", f"{found.name}, {reason}")
    elif is_jetson(root):
        mend = "sudo usermod -aG video,render $USER and log in again; containers: --runtime nvidia"
        yield Finding("GPU", "problem", "this is a Jetson, but CUDA finds no GPU", mend)
    elif (root / "proc/driver/nvidia/version").is_file():
        mend = "nvidia-smi says more; in a container start it with --gpus all"
        yield Finding("GPU", "problem", "there is an NVIDIA driver, but CUDA finds no GPU", mend)
    else:
        yield Finding("GPU", "ok", "no CUDA GPU: ONNX Runtime on the CPU is used")


def compiler() -> Iterator[Finding]:
    """Look for nvcc, which only compiling the plugin needs."""
    from rwkv_edge.compiler import compiler_version, find_tool
    from rwkv_edge.runtime.machine import find_gpu

    found, nvcc = find_gpu(), find_tool("nvcc")
    if nvcc is None:
        reason = "nvcc is not here; only compiling the plugin needs it"
        yield Finding("CUDA compiler", "ok", reason)
        return
    release = compiler_version(nvcc)
    reason = f"nvcc {release} in {Path(nvcc).parent}"
    if found is not None and _numbers(release)[:1] > _numbers(found.cuda)[:1]:
        reason += f", newer than the driver, which takes CUDA up to {found.cuda}"
        yield Finding(
            "CUDA compiler", "warning", reason, f"install CUDA {found.cuda} or a new driver"
        )
    else:
        yield Finding("CUDA compiler", "ok", reason)


def bindings() -> Iterator[Finding]:
    """Look for the packages through which Python reaches CUDA's memory."""
    from rwkv_edge.runtime.machine import find_gpu

    found = [f"{name} {_version(name)}" for name in ("cuda-python", "pycuda") if _version(name)]
    reason = ", ".join(found) or "neither cuda-python nor pycuda is installed"
    if not found and find_gpu() is not None:
        mend = "pip install cuda-python, in the version of your CUDA"
        yield Finding("CUDA for Python", "warning", f"{reason}, so no engine runs", mend)
    else:
        yield Finding("CUDA for Python", "ok", reason)


def tensorrt(root: Path, cache: Path) -> Iterator[Finding]:
    """Import TensorRT and let it load the compiled plugin."""
    from rwkv_edge.runtime.backend import TENSORRT, TENSORRT_RTX, is_installed
    from rwkv_edge.runtime.machine import find_gpu

    if is_installed(TENSORRT):
        yield from _backend(TENSORRT, "TensorRT", cache)
    elif find_gpu() is None or is_installed(TENSORRT_RTX):
        yield Finding("TensorRT", "ok", "not installed")
    elif is_jetson(root):
        mend = "sudo apt install nvidia-jetpack, and make the venv with --system-site-packages"
        yield Finding("TensorRT", "warning", "Python does not find JetPack's", mend)
    else:
        reason = "not installed, so the GPU is not used"
        yield Finding("TensorRT", "warning", reason, "pip install 'rwkv-edge[tensorrt]'")


def tensorrt_rtx(cache: Path) -> Iterator[Finding]:
    """Import TensorRT-RTX and let it load the compiled plugin."""
    from rwkv_edge.runtime.backend import TENSORRT_RTX, is_installed

    if is_installed(TENSORRT_RTX):
        yield from _backend(TENSORRT_RTX, "TensorRT-RTX", cache)
    else:
        yield Finding("TensorRT-RTX", "ok", "not installed")


def _backend(name: str, title: str, cache: Path) -> Iterator[Finding]:
    from rwkv_edge.runtime.backend import load_backend, load_plugin
    from rwkv_edge.runtime.plugin import default_folder, find_plugin

    try:
        backend = load_backend(name)
    except BackendError as error:
        yield _refused(title, error)
        return
    if name == "tensorrt" and _numbers(backend.version)[:2] < _OLDEST_TENSORRT:
        reason = f"{backend.version} is older than {_OLDEST_TENSORRT[0]}.{_OLDEST_TENSORRT[1]}"
        yield Finding(
            title, "problem", f"{reason}; it cannot load the plugin", "install a later one"
        )
        return
    yield Finding(title, "ok", f"{backend.version}, imported")
    compiled = find_plugin(default_folder(cache))
    if compiled is None:
        return
    try:
        require_private(cache)
        load_plugin(backend, compiled.library)
    except BackendError as error:
        yield _refused(f"Plugin in {title}", error)
    else:
        yield Finding(f"Plugin in {title}", "ok", "loaded")


def plugin(cache: Path) -> Iterator[Finding]:
    """Look for the compiled plugin of these very sources, for this GPU."""
    from rwkv_edge.runtime.backend import TENSORRT, TENSORRT_RTX, is_installed
    from rwkv_edge.runtime.machine import find_gpu
    from rwkv_edge.runtime.plugin import default_folder, find_plugin

    here = default_folder(cache)
    found, compiled = find_gpu(), find_plugin(here)
    build = "rwkv-edge plugin build"
    if compiled is not None:
        made = f"compiled for {', '.join(compiled.architectures)} with TensorRT {compiled.headers}"
        if found is not None and not compiled.runs_on(found.architecture):
            reason = f"{made}, but this GPU is {found.architecture}"
            yield Finding("Plugin", "problem", reason, f"{build} --arch {found.architecture}")
        else:
            yield Finding("Plugin", "ok", f"{made}; matches its sources; {compiled.library}")
    elif here.exists():
        yield Finding("Plugin", "problem", f"{here} was changed or is not whole", build)
    elif other := next((folder for folder in cache.glob("plugin-*") if find_plugin(folder)), None):
        yield Finding("Plugin", "warning", f"the one in {other.name} is of other sources", build)
    elif found is not None and (is_installed(TENSORRT) or is_installed(TENSORRT_RTX)):
        yield Finding("Plugin", "warning", "not compiled yet; rwkv-edge build does it, once", build)
    else:
        yield Finding("Plugin", "ok", "not compiled; only TensorRT needs it")


def engines(cache: Path, here: Path) -> Iterator[Finding]:
    """Compare each engine in the cache and the working folder with this machine."""
    files = {*cache.rglob("*"), *here.glob("*")}
    paths = sorted(path for path in files if path.suffix in ENGINE_SUFFIXES)
    if not paths:
        yield Finding("Engines", "ok", f"none in {cache} and {here}")
    for path in paths:
        yield _engine(path, cache)


def _engine(path: Path, cache: Path) -> Finding:
    from rwkv_edge.runtime.backend import load_backend
    from rwkv_edge.runtime.machine import find_gpu
    from rwkv_edge.runtime.manifest import Environment, read_manifest, verify
    from rwkv_edge.runtime.plugin import default_folder, find_plugin

    found, compiled = find_gpu(), find_plugin(default_folder(cache))
    try:
        manifest = read_manifest(path)
        what = f"{manifest.variant}, {manifest.precision}"
        if found is None:
            target = manifest.gpu or manifest.compute_capability or "any GPU"
            return Finding(path.name, "ok", f"{what}, for {target}; there is no CUDA GPU here")
        backend = load_backend(manifest.backend)
        sha256 = compiled.sha256 if compiled else None
        verify(path, Environment(backend.name, backend.version, found, sha256))
    except BackendError as error:
        finding = _refused(path.name, error)
        reason = finding.reason.removeprefix(f"{path}: ")
        return Finding(finding.name, "warning", reason, finding.mend)
    return Finding(path.name, "ok", f"{what}, for this machine")


def _refused(name: str, error: BackendError) -> Finding:
    """Split one of our messages: what is wrong; how to mend it."""
    reason, _, mend = str(error).rpartition("; ")
    return Finding(name, "problem", reason or mend, mend if reason else "")


def _numbers(text: str) -> tuple[int, ...]:
    """Read '10.3.0.post1' as (10, 3, 0), for comparing."""
    parts = []
    for part in text.split("."):
        if not part.isdecimal():
            break
        parts.append(int(part))
    return tuple(parts)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
