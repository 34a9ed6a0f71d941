"""The steps of `rwkv-edge build`: export and runtime put together."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from rwkv_edge.cache import code_cache
from rwkv_edge.cli.console import progress_bar
from rwkv_edge.cli.engine_gate import calibration_images, describe_gate, gate_engine
from rwkv_edge.cli.loading import export_to_cache, parse_imgsz, require_torch
from rwkv_edge.config import DEFAULT_IMGSZ, DEFAULT_VARIANT
from rwkv_edge.errors import BackendError, UsageError
from rwkv_edge.export.graph import (
    cast_input_first,
    input_shape,
    properties,
    read_onnx,
    set_batch,
    without_functions,
)
from rwkv_edge.files import atomic_path, file_sha256
from rwkv_edge.operators import NAMES, VERSION
from rwkv_edge.preprocess import UInt8Array
from rwkv_edge.runtime import ModelInfo
from rwkv_edge.runtime.backend import (
    TENSORRT,
    TENSORRT_RTX,
    Backend,
    is_installed,
    load_backend,
    load_plugin,
)
from rwkv_edge.runtime.build import Batch, BuiltEngine, Target, build_engine
from rwkv_edge.runtime.cuda import open_driver
from rwkv_edge.runtime.machine import Gpu
from rwkv_edge.runtime.manifest import Manifest, write_manifest
from rwkv_edge.runtime.onnxruntime import OnnxRuntimeRunner
from rwkv_edge.runtime.plugin import Plugin, build_plugin, default_folder, find_plugin
from rwkv_edge.weights import shipped_onnx

if TYPE_CHECKING:
    from onnx import ModelProto

    from rwkv_edge.export.lower import Lowered

_GATED_MODEL = "the converted ONNX model, in ONNX Runtime; the engine itself was not run"


@dataclass(frozen=True)
class Request:
    """What to build."""

    source: Path
    """ONNX file, float32."""
    engine: Path
    """File to write."""
    precision: str
    batch: Batch
    backend: Backend
    gpu: Gpu | None
    target: Target
    calib: Path | None
    max_dice_drop: float
    command: tuple[str, ...]
    plugin: Path | None = None
    """Folder of the compiled plugin; None: in the cache."""
    use_plugin: bool = True

    @property
    def runs_here(self) -> bool:
        """Whether this machine has the GPU that the engine is for."""
        ahead = self.target.compute_capability
        return self.gpu is not None and ahead in (None, self.gpu.compute_capability)


def find_onnx(
    path: Path | None,
    weights: Path | None,
    variant: str | None,
    imgsz: str | None,
    *,
    folded: bool = True,
) -> Path:
    """Return the ONNX file to build from: given, shipped, or exported into the cache.

    Raises:
        UsageError: options that exclude each other.
    """
    if path is not None:
        if weights is not None or imgsz is not None or variant is not None or not folded:
            raise UsageError(
                "--onnx excludes --weights, --variant, --imgsz, --no-fold: the file has them in it"
            )
        return path
    size = parse_imgsz(imgsz) if imgsz else None
    if folded and weights is None and size in (None, (DEFAULT_IMGSZ, DEFAULT_IMGSZ)):
        return shipped_onnx(variant or DEFAULT_VARIANT)
    require_torch(
        "building from a checkpoint, or for another image size,",
        "give --onnx FILE, which rwkv-edge export wrote elsewhere",
    )
    return export_to_cache(weights, variant, size, folded=folded)


def choose_backend(wanted: str, compute_capability: str | None, gpu: Gpu | None) -> Backend:
    """Import the backend asked for; for 'auto', the one that can do it, and say which and why.

    Raises:
        UsageError: an unknown name.
        BackendError: not installed.
    """
    if wanted not in ("auto", TENSORRT, TENSORRT_RTX):
        raise UsageError(f"--backend {wanted}: choose one of auto, {TENSORRT}, {TENSORRT_RTX}")
    why = ""
    if wanted == "auto":
        if compute_capability is not None:
            wanted, why = TENSORRT_RTX, "it builds ahead of time"
        elif gpu is not None and is_installed(TENSORRT):
            wanted, why = TENSORRT, f"for the {gpu.name} here"
        elif is_installed(TENSORRT_RTX):
            wanted = TENSORRT_RTX
            why = "no GPU here" if is_installed(TENSORRT) else "tensorrt is not installed"
        else:
            raise BackendError(
                "neither TensorRT nor TensorRT-RTX is installed; on a Jetson TensorRT comes with "
                "JetPack (a venv needs --system-site-packages), elsewhere: pip install tensorrt-rtx"
            )
    backend = load_backend(wanted)
    _say(f"backend: {backend.name} {backend.version}" + (f" ({why})" if why else ""))
    return backend


def make_engine(request: Request) -> None:
    """Lower the precision, build, and write engine and manifest, or nothing.

    The gate judges the model of lower precision in ONNX Runtime, and the engine where it can run.

    Raises:
        ExportError: the gate refuses.
        BackendError: the ONNX file, the plugin, TensorRT or CUDA.
    """
    exported = read_onnx(request.source)
    if request.runs_here:
        open_driver()  # what the gate will need is missed before the build, not after
    model = cast_input_first(exported)
    images: list[UInt8Array] = []
    if request.runs_here or request.precision != "fp32":
        images = calibration_images(request.calib, input_shape(model)[1:3])
    plugin = None
    if request.use_plugin and any(node.op_type in NAMES for node in model.graph.node):
        plugin = _find_plugin(request)
        load_plugin(request.backend, plugin.library)
    lowered = None if request.precision == "fp32" else _lower(model, request, images)
    final = _set_batch(lowered.model if lowered else model, request.batch)
    if plugin is not None:
        final = without_functions(final)
    with progress_bar("building", None) as advance:
        built = build_engine(
            request.backend, final.SerializeToString(), request.batch, request.target, advance
        )
    manifest = _describe(request, exported, built, plugin, lowered)
    print(f"plugin layers: {_count_operators(final, built.plugin_layers)}")
    if request.runs_here:
        gate = gate_engine(built.plan, manifest, plugin, images, request.max_dice_drop)
        manifest = replace(manifest, gate=gate)
    elif lowered is None:
        print(f"gate: none, for float32 it needs the engine, and there is {_why_not(request)}")
    with atomic_path(request.engine) as temporary:
        temporary.write_bytes(built.plan)
    write_manifest(request.engine, manifest)


def _count_operators(model: ModelProto, layers: Sequence[str]) -> str:
    """Say which operators these layers are; they have the names of the model's nodes."""
    operators = {node.name: node.op_type for node in model.graph.node}
    counts = Counter(operators.get(layer, layer) for layer in layers)
    found = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    return found or "none, TensorRT's own instead"


def _why_not(request: Request) -> str:
    """Say why the engine cannot run on this machine."""
    if request.gpu is None:
        return "no GPU here"
    return f"no GPU of compute capability {request.target.compute_capability} here"


def _lower(model: ModelProto, request: Request, images: list[UInt8Array]) -> Lowered:
    from rwkv_edge.export.lower import Lowering

    with tempfile.TemporaryDirectory(prefix="rwkv-edge-") as folder:
        path = Path(folder) / "model.onnx"

        def open_network(candidate: ModelProto) -> OnnxRuntimeRunner:
            onnx.save(candidate, path)
            return OnnxRuntimeRunner(path)

        lowering = Lowering(model, images, open_network, request.max_dice_drop, progress_bar)
        lowered = lowering(request.precision)
    where = "" if request.runs_here else f", {_why_not(request)}"
    print(
        f"gate: passed in ONNX Runtime{where}; {lowered.gate}, "
        f"allowed drop {request.max_dice_drop:g}"
    )
    if lowered.unquantised_layers:
        print(f"left in float16, by measurement: {', '.join(lowered.unquantised_layers)}")
    return lowered


def _find_plugin(request: Request) -> Plugin:
    """Return the compiled plugin, compiled now if the cache has none for this GPU."""
    architecture = (request.target.compute_capability or "").replace(".", "") or (
        request.gpu.architecture if request.gpu else ""
    )
    if request.plugin is not None:
        plugin = find_plugin(request.plugin)
        if plugin is None:
            raise BackendError(
                f"{request.plugin}: no compiled plugin, or one that was changed; "
                f"rwkv-edge plugin build --output {request.plugin}"
            )
        if architecture and not plugin.runs_on(architecture):
            raise BackendError(
                f"{request.plugin}: compiled for {', '.join(plugin.architectures)}, but the engine "
                f"is for {architecture}; rwkv-edge plugin build --arch {architecture} "
                f"--output {request.plugin}"
            )
        return plugin
    folder = default_folder(code_cache())
    plugin = find_plugin(folder)
    if plugin is not None and (not architecture or plugin.runs_on(architecture)):
        return plugin
    if not architecture:
        raise BackendError(
            "no GPU here to compile the plugin for: name one with --compute-capability, compile it "
            "with rwkv-edge plugin build --arch, or build with --no-plugin"
        )
    architectures = sorted({architecture, *(plugin.architectures if plugin else ())}, key=int)
    _say(f"compiling the plugin for {', '.join(architectures)} into {folder}, once")
    headers = code_cache() / "tensorrt-headers"
    return build_plugin(folder, architectures, headers if headers.is_dir() else None)


def _set_batch(model: ModelProto, batch: Batch) -> ModelProto:
    if not batch.is_fixed:
        return set_batch(model, None)
    return model if input_shape(model)[0] == batch.optimum else set_batch(model, batch.optimum)


def _describe(
    request: Request,
    exported: ModelProto,
    built: BuiltEngine,
    plugin: Plugin | None,
    lowered: Lowered | None,
) -> Manifest:
    told, gpu = properties(exported), request.gpu
    ahead = request.target.compute_capability
    on_gpu = gpu if ahead is None else None
    rest = input_shape(exported)[1:]
    info = ModelInfo.from_properties(told, (rest[0], rest[1]), str(request.source))
    sizes = (request.batch.minimum, request.batch.optimum, request.batch.maximum)
    gate = describe_gate(_GATED_MODEL, lowered.gate, request.max_dice_drop) if lowered else None
    return Manifest(
        engine_sha256=hashlib.sha256(built.plan).hexdigest(),
        backend=request.backend.name,
        backend_version=request.backend.version,
        compute_capability=on_gpu.compute_capability if on_gpu else ahead,
        gpu=on_gpu.name if on_gpu else None,
        multiprocessors=on_gpu.multiprocessors if on_gpu else None,
        cuda=on_gpu.cuda if on_gpu else None,
        driver=on_gpu.driver if on_gpu else None,
        plugin_sha256=plugin.sha256 if plugin else None,
        plugin_version=VERSION if plugin else None,
        onnx=os.path.abspath(request.source),
        onnx_sha256=file_sha256(request.source),
        weights_sha256=told.get("weights_sha256", ""),
        variant=info.variant,
        names=info.names,
        precision=request.precision,
        unquantised_layers=lowered.unquantised_layers if lowered else (),
        shapes={"image": tuple((size, *rest) for size in sizes)},
        layers=built.layers,
        gate=gate,
        command=request.command,
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr)
