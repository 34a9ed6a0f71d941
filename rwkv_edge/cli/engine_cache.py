"""Engines in the cache: one for each model, TensorRT, GPU and plugin; the last one built counts."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from rwkv_edge.cache import code_cache
from rwkv_edge.cli.loading import require_onnx
from rwkv_edge.config import DEFAULT_MAX_DICE_DROP, DEFAULT_VARIANT
from rwkv_edge.errors import BackendError, OutputError, RwkvEdgeError
from rwkv_edge.files import atomic_path, file_sha256
from rwkv_edge.runtime.backend import (
    TENSORRT,
    TENSORRT_RTX,
    Backend,
    is_installed,
    load_backend,
)
from rwkv_edge.runtime.machine import Gpu, find_gpu
from rwkv_edge.runtime.manifest import read_manifest, write_manifest
from rwkv_edge.runtime.plugin import default_folder, find_plugin
from rwkv_edge.runtime.tensorrt import TensorRTRunner
from rwkv_edge.weights import shipped_onnx


def open_engine(path: Path, backend: str | None = None) -> TensorRTRunner:
    """Run an engine; its plugin may lie beside it, or in the cache.

    Raises:
        BackendError: as `TensorRTRunner`.
    """
    folders = [path.parent]
    with contextlib.suppress(OutputError):  # without a cache there is no plugin in it
        folders.append(default_folder(code_cache()))
    return TensorRTRunner(path, folders, backend)


def engine_path(source: Path, onnx_sha256: str, backend: Backend, gpu: Gpu, plugin: str) -> Path:
    """Return where the engine of a model belongs; `plugin` is its hash, empty without one."""
    described = (gpu.name, gpu.compute_capability, str(gpu.multiprocessors))
    parts = (onnx_sha256, backend.name, backend.version, *described, plugin)
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return code_cache() / f"{source.stem}-{backend.name}-{key}.engine"


def find_engine(source: Path, backend: Backend, gpu: Gpu) -> Path | None:
    """Return the cached engine of an ONNX file, with or without the plugin: the last one built."""
    plugin = find_plugin(default_folder(code_cache()))
    sha256 = file_sha256(source)
    names = {plugin.sha256 if plugin else "", ""}
    paths = [engine_path(source, sha256, backend, gpu, name) for name in names]
    return max(filter(Path.is_file, paths), key=lambda path: path.stat().st_mtime_ns, default=None)


def keep_engine(engine: Path, backend: Backend, gpu: Gpu) -> Path:
    """Copy an engine that was just built to where `find_engine` looks, and return that path.

    Raises:
        BackendError, OutputError: the cache is not safe, or cannot be written.
    """
    manifest = read_manifest(engine)
    plugin = manifest.plugin_sha256 or ""
    path = engine_path(Path(manifest.onnx), manifest.onnx_sha256, backend, gpu, plugin)
    with atomic_path(path) as temporary:
        shutil.copyfile(engine, temporary)
    # its name has the hash of the model, which may lie anywhere, and at several places
    write_manifest(path, replace(manifest, onnx=""))
    return path


def search_engine(source: Path) -> tuple[Path | None, str]:
    """Look for an engine that `--backend auto` may use.

    Returns:
        The engine or None, and the reason in words.
    """
    gpu = find_gpu()
    if gpu is None:
        return None, "no GPU here"
    names = [name for name in (TENSORRT, TENSORRT_RTX) if is_installed(name)]
    if not names:
        return None, f"{gpu.name} here, but neither tensorrt nor tensorrt-rtx is installed"
    reasons = []
    for name in names:
        try:
            engine = find_engine(source, load_backend(name), gpu)
        except RwkvEdgeError as error:  # a cache that cannot be made, too
            reasons.append(str(error))
        else:
            if engine is not None:
                return engine, f"the engine in the cache, {engine}"
    given = "" if source == shipped_onnx(DEFAULT_VARIANT) else f" --onnx {source}"
    missing = f"{gpu.name} here, but no engine yet: rwkv-edge build{given} --fp16"
    return None, "; ".join(reasons) or missing


def build_or_find(source: Path, name: str) -> Path:
    """Return the cached engine of an ONNX file; build one in float16 if there is none.

    Raises:
        BackendError: TensorRT or the GPU is missing, or the build fails.
        ExportError: the gate refuses.
    """
    backend, gpu = load_backend(name), find_gpu()
    if gpu is None:
        raise BackendError(
            f"--backend {name} needs a CUDA GPU, and there is none here; leave it away for ONNX "
            "Runtime"
        )
    engine = find_engine(source, backend, gpu)
    if engine is not None:
        return engine
    require_onnx("building an engine")
    from rwkv_edge.cli.engine import Request, make_engine
    from rwkv_edge.export.graph import input_shape, read_onnx
    from rwkv_edge.runtime.build import Batch, Target

    batch = input_shape(read_onnx(source))[0]

    print(
        f"no {name} engine for {source.name} on the {gpu.name} yet: building one in float16, once",
        file=sys.stderr,
    )
    with tempfile.TemporaryDirectory(prefix="rwkv-edge-") as folder:
        request = Request(
            source=source,
            engine=Path(folder) / "model.engine",
            precision="fp16",
            batch=Batch(batch, batch, batch),
            backend=backend,
            gpu=gpu,
            target=Target(),
            calib=None,
            max_dice_drop=DEFAULT_MAX_DICE_DROP,
            command=("rwkv-edge", "build", "--onnx", str(source), "--fp16", "--backend", name),
        )
        with contextlib.redirect_stdout(sys.stderr):  # standard output is for `--json -`
            make_engine(request)
        return keep_engine(request.engine, backend, gpu)
