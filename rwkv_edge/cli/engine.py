"""The steps of `rwkv-edge build`: export and runtime put together."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from rwkv_edge.cache import cache_folder
from rwkv_edge.cli.console import progress_bar
from rwkv_edge.cli.loading import export_to_cache, parse_imgsz
from rwkv_edge.config import DEFAULT_IMGSZ, DEFAULT_VARIANT
from rwkv_edge.data.reading import IMAGE_SUFFIXES, read_image
from rwkv_edge.data.synth import render_image
from rwkv_edge.errors import BackendError, DataError, UsageError
from rwkv_edge.export.function import NAME
from rwkv_edge.export.graph import (
    cast_input_first,
    input_shape,
    properties,
    read_onnx,
    set_batch,
    without_function,
)
from rwkv_edge.files import atomic_path, file_sha256
from rwkv_edge.preprocess import UInt8Array, to_input
from rwkv_edge.runtime.backend import (
    TENSORRT,
    TENSORRT_RTX,
    Backend,
    is_installed,
    load_backend,
    load_plugin,
)
from rwkv_edge.runtime.build import Batch, Target, build_engine
from rwkv_edge.runtime.machine import Gpu
from rwkv_edge.runtime.manifest import Manifest, manifest_path, write_manifest
from rwkv_edge.runtime.onnxruntime import OnnxRuntimeRunner
from rwkv_edge.runtime.plugin import (
    VERSION,
    Plugin,
    build_plugin,
    default_folder,
    find_plugin,
)
from rwkv_edge.weights import shipped_onnx

if TYPE_CHECKING:
    from onnx import ModelProto

    from rwkv_edge.export.lower import Lowered

_RENDERED_FRAMES, _MOST_IMAGES = 8, 128


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
    plugin: Path | None
    """Folder of the compiled plugin; None: in the cache."""
    use_plugin: bool
    command: tuple[str, ...]


def find_onnx(
    path: Path | None, weights: Path | None, variant: str | None, imgsz: str | None
) -> Path:
    """Return the ONNX file to build from: given, shipped, or exported into the cache.

    Raises:
        UsageError: options that exclude each other.
    """
    if path is not None:
        if weights is not None or imgsz is not None:
            raise UsageError("--onnx excludes --weights and --imgsz: the file has both in it")
        return path
    size = parse_imgsz(imgsz) if imgsz else None
    if weights is None and size in (None, (DEFAULT_IMGSZ, DEFAULT_IMGSZ)):
        return shipped_onnx(variant or DEFAULT_VARIANT)
    return export_to_cache(weights, variant, size)


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
    """Lower the precision through the gate, build, and write engine and manifest, or nothing.

    Raises:
        ExportError: the gate refuses.
        BackendError: the ONNX file, the plugin or TensorRT.
    """
    exported = read_onnx(request.source)
    model = cast_input_first(exported)
    lowered = None if request.precision == "fp32" else _lower(model, request)
    plugin = None
    if request.use_plugin and any(node.op_type == NAME for node in model.graph.node):
        plugin = _find_plugin(request)
        load_plugin(request.backend, plugin.library)
    final = _set_batch(lowered.model if lowered else model, request.batch)
    if plugin is not None:
        final = without_function(final)
    with progress_bar("building", None) as advance:
        built = build_engine(
            request.backend, final.SerializeToString(), request.batch, request.target, advance
        )
    with atomic_path(request.engine) as temporary:
        temporary.write_bytes(built.plan)
        manifest = _describe(
            request, exported, file_sha256(temporary), plugin, lowered, built.layers
        )
        write_manifest(request.engine, manifest)
    size = len(built.plan) / 1e6
    print(f"wrote {request.engine} ({size:.1f} MB) and {manifest_path(request.engine).name}")
    if plugin is not None:
        print(f"bi-WKV: {len(built.plugin_layers)} plugin layers")
    else:
        print("bi-WKV: TensorRT's own layers")


def _lower(model: ModelProto, request: Request) -> Lowered:
    from rwkv_edge.export.lower import Lowering

    size = input_shape(model)[1:3]
    images = _calibration_images(request.calib, size)
    with tempfile.TemporaryDirectory(prefix="rwkv-edge-") as folder:
        path = Path(folder) / "model.onnx"

        def open_network(candidate: ModelProto) -> OnnxRuntimeRunner:
            onnx.save(candidate, path)
            return OnnxRuntimeRunner(path)

        lowering = Lowering(model, images, open_network, request.max_dice_drop, progress_bar)
        lowered = lowering(request.precision)
    gate = lowered.gate
    print(
        f"gate: passed in ONNX Runtime; Dice {gate.dice:.4f} with float32 on {gate.images} images "
        f"(worst {gate.worst_dice:.4f}, allowed drop {request.max_dice_drop:g}), "
        f"{gate.disagreement:.3%} of pixels differ, largest error {gate.max_error:.4f} in "
        f"probability, {gate.non_finite} values not finite"
    )
    if lowered.unquantised_layers:
        print(f"left in float16, by measurement: {', '.join(lowered.unquantised_layers)}")
    return lowered


def _calibration_images(folder: Path | None, size: tuple[int, int]) -> list[UInt8Array]:
    """Return images as the network sees them, at most 128, evenly spaced over a folder's names.

    Raises:
        DataError: no images there, or one that cannot be read.
    """
    if folder is None:
        _say(f"no --calib: the gate compares on {_RENDERED_FRAMES} rendered frames")
        return [render_image(seed, size).image for seed in range(_RENDERED_FRAMES)]
    inside = folder / "images" if (folder / "images").is_dir() else folder
    if not inside.is_dir():
        raise DataError(f"--calib {folder}: no such folder")
    paths = sorted(p for p in inside.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise DataError(f"--calib {folder}: no images in it")
    count = min(len(paths), _MOST_IMAGES)
    chosen = [paths[index * len(paths) // count] for index in range(count)]
    return [to_input(read_image(path), size)[0][0] for path in chosen]


def _find_plugin(request: Request) -> Plugin:
    """Return the compiled plugin, compiled now if the cache has none for this GPU."""
    if request.plugin is not None:
        plugin = find_plugin(request.plugin)
        if plugin is None:
            raise BackendError(
                f"{request.plugin}: no compiled plugin, or one that was changed; "
                f"rwkv-edge plugin build --output {request.plugin}"
            )
        return plugin
    folder = default_folder(cache_folder())
    plugin = find_plugin(folder)
    architecture = (request.target.compute_capability or "").replace(".", "") or (
        request.gpu.architecture if request.gpu else ""
    )
    if plugin is not None and architecture in ("", *plugin.architectures):
        return plugin
    if not architecture:
        raise BackendError(
            "no GPU here to compile the plugin for: name one with --compute-capability, compile it "
            "with rwkv-edge plugin build --arch, or build with --no-plugin"
        )
    architectures = sorted({architecture, *(plugin.architectures if plugin else ())}, key=int)
    _say(f"compiling the plugin for {', '.join(architectures)} into {folder}, once")
    headers = cache_folder() / "tensorrt-headers"
    return build_plugin(folder, architectures, headers if headers.is_dir() else None)


def _set_batch(model: ModelProto, batch: Batch) -> ModelProto:
    if not batch.is_fixed:
        return set_batch(model, None)
    return model if input_shape(model)[0] == batch.optimum else set_batch(model, batch.optimum)


def _describe(
    request: Request,
    exported: ModelProto,
    engine_sha256: str,
    plugin: Plugin | None,
    lowered: Lowered | None,
    layers: dict[str, int],
) -> Manifest:
    told, gpu = properties(exported), request.gpu
    ahead = request.target.compute_capability
    on_gpu = gpu if ahead is None else None
    rest = input_shape(exported)[1:]
    sizes = (request.batch.minimum, request.batch.optimum, request.batch.maximum)
    return Manifest(
        engine_sha256=engine_sha256,
        backend=request.backend.name,
        backend_version=request.backend.version,
        compute_capability=on_gpu.compute_capability if on_gpu else ahead,
        gpu=on_gpu.name if on_gpu else None,
        cuda=on_gpu.cuda if on_gpu else None,
        driver=on_gpu.driver if on_gpu else None,
        plugin_sha256=plugin.sha256 if plugin else None,
        plugin_version=VERSION if plugin else None,
        onnx=os.path.abspath(request.source),
        onnx_sha256=file_sha256(request.source),
        weights_sha256=told.get("weights_sha256", ""),
        variant=told.get("variant", "unknown"),
        names=tuple(told.get("names", "polyp").split(",")),
        precision=request.precision,
        unquantised_layers=lowered.unquantised_layers if lowered else (),
        shapes={"image": tuple((size, *rest) for size in sizes)},
        layers=layers,
        gate=asdict(lowered.gate) if lowered else None,
        command=request.command,
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr)
