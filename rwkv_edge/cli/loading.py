"""From `--weights`, `--model` and `--backend` to a runner."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rwkv_edge import __version__
from rwkv_edge.cache import cache_folder
from rwkv_edge.config import DEFAULT_IMGSZ, DEFAULT_VARIANT, ENGINE_SUFFIXES
from rwkv_edge.errors import BackendError, MissingDependencyError, UsageError
from rwkv_edge.files import check_run_name
from rwkv_edge.weights import shipped_checkpoint, shipped_onnx

if TYPE_CHECKING:
    from rwkv_edge.runtime import Runner

ENGINE_BACKENDS = ("tensorrt", "tensorrt-rtx")
OPENVINO_BACKENDS = {"openvino": None, "openvino-fp32": "fp32", "openvino-bf16": "bf16"}
"""By name, the precision; None: what suits the processor."""
BACKENDS = ("auto", "onnxruntime", *OPENVINO_BACKENDS, "torch", *ENGINE_BACKENDS)

WeightsOption = Annotated[
    Path | None,
    typer.Option(help="Checkpoint (.safetensors or upstream .pth). Default: the shipped Tiny."),
]
ModelOption = Annotated[
    Path | None, typer.Option(help="Exported model (.onnx or .engine) instead of a checkpoint.")
]
VariantOption = Annotated[
    str | None,
    typer.Option(
        help="Which shipped weights, or what an upstream file holds: tiny, small, base, unet."
    ),
]


def check_backend(backend: str) -> str:
    """Return `backend` if there is one of that name.

    Raises:
        UsageError: there is none.
    """
    if backend not in BACKENDS:
        raise UsageError(f"--backend {backend}: choose one of {', '.join(BACKENDS)}")
    return backend


def _check_imgsz(text: str | None) -> str | None:
    if text is not None:
        parse_imgsz(text)
    return text


BackendOption = Annotated[
    str,
    typer.Option(
        help="auto, onnxruntime, openvino (-fp32, -bf16), torch, tensorrt or tensorrt-rtx.",
        callback=check_backend,
    ),
]
ImgszOption = Annotated[
    str | None,
    typer.Option(
        help="Network input: SIDE or HEIGHTxWIDTH, multiples of 16. Default: the model's own.",
        callback=_check_imgsz,
    ),
]
NameOption = Annotated[
    str,
    typer.Option(help="Of the run; taken ones get a number.", callback=check_run_name),
]


def open_runner(
    weights: Path | None = None,
    model: Path | None = None,
    variant: str | None = None,
    backend: str = "auto",
    imgsz: str | None = None,
) -> Runner:
    """Load a model on a runtime.

    An exported model runs as it is. A checkpoint runs in Torch, or is first exported into the
    cache. Without either, the shipped Tiny runs. 'tensorrt' and 'tensorrt-rtx' build an engine
    unless the cache has one; 'auto' takes one that is given or in the cache, else ONNX Runtime,
    and says so on standard error.

    Raises:
        UsageError: options that exclude each other.
        CheckpointError, BackendError, MissingDependencyError: as their messages say.
    """
    check_backend(backend)
    if weights is not None and weights.suffix in (".onnx", *ENGINE_SUFFIXES):
        if model is not None:
            raise UsageError("give one model: --weights and --model name two")
        weights, model = None, weights
    size = parse_imgsz(imgsz) if imgsz else None
    if model is not None:
        if variant is not None:
            raise UsageError("--variant: an exported model is what it is; leave it out")
        return _open_exported(model, weights, backend, size)
    if backend == "torch":
        return _open_torch(weights, variant, size)
    if weights is None and size in (None, (DEFAULT_IMGSZ, DEFAULT_IMGSZ)):
        return _open_source(shipped_onnx(variant or DEFAULT_VARIANT), backend)
    return _open_source(export_to_cache(weights, variant, size), backend)


def _open_exported(
    model: Path, weights: Path | None, backend: str, size: tuple[int, int] | None
) -> Runner:
    if weights is not None:
        raise UsageError("give one model: --weights and --model exclude each other")
    if backend == "torch":
        raise UsageError("--backend torch runs a checkpoint (--weights), not an exported model")
    is_engine = model.suffix in ENGINE_SUFFIXES
    runner = _open_given_engine(model, backend) if is_engine else _open_source(model, backend)
    if size is not None and size != runner.info.input_size:
        height, width = runner.info.input_size
        runner.close()
        again = "build" if is_engine else "export"
        raise UsageError(f"--imgsz: {model} was made for {height}x{width}; {again} it again")
    return runner


def _open_given_engine(engine: Path, backend: str) -> Runner:
    if backend not in ("auto", *ENGINE_BACKENDS):
        raise UsageError(f"--backend {backend} does not run engines; give an .onnx file instead")
    from rwkv_edge.cli.engine_cache import open_engine

    if backend != "auto":
        return open_engine(engine, backend)
    return _announced(open_engine(engine), "the engine that was given")


def _open_source(source: Path, backend: str) -> Runner:
    """Run an ONNX file, or the engine that was built from it."""
    if backend == "onnxruntime":
        return _open_onnx(source)
    if backend in OPENVINO_BACKENDS:
        from rwkv_edge.runtime.openvino import OpenVinoRunner

        return OpenVinoRunner(source, precision=OPENVINO_BACKENDS[backend])
    if not source.is_file():
        raise BackendError(f"{source}: no such file")
    from rwkv_edge.cli.engine_cache import build_or_find, open_engine, search_engine

    if backend in ENGINE_BACKENDS:
        return open_engine(build_or_find(source, backend), backend)
    engine, why = search_engine(source)
    return _announced(_open_onnx(source) if engine is None else open_engine(engine), why)


def _announced(runner: Runner, why: str) -> Runner:
    """Say what `--backend auto` chose: nobody should have to guess why it is slow."""
    print(f"backend: {runner.backend} ({why})", file=sys.stderr)
    return runner


def _open_onnx(path: Path) -> Runner:
    try:
        from rwkv_edge.runtime.onnxruntime import OnnxRuntimeRunner
    except ImportError as error:
        raise BackendError(f"ONNX Runtime cannot be imported ({error})") from error
    return OnnxRuntimeRunner(path)


def _open_torch(weights: Path | None, variant: str | None, size: tuple[int, int] | None) -> Runner:
    require_torch("--backend torch")
    from rwkv_edge.runtime.torch import TorchRunner

    return TorchRunner(weights or shipped_checkpoint(variant or DEFAULT_VARIANT), variant, size)


def export_to_cache(
    weights: Path | None, variant: str | None, size: tuple[int, int] | None, *, folded: bool = True
) -> Path:
    """Export a checkpoint once; the next run with the same weights and size finds the file."""
    require_torch(
        "a checkpoint, or another image size,", "give a file that rwkv-edge export wrote elsewhere"
    )
    from rwkv_edge.export.onnx import export_onnx
    from rwkv_edge.files import file_sha256
    from rwkv_edge.models import load_model

    path = weights or shipped_checkpoint(variant or DEFAULT_VARIANT)
    network, info = load_model(path, variant)
    height, width = size or info.imgsz
    sha256 = file_sha256(path)
    form = "folded" if folded else "plain"
    label = f"{info.variant}-{height}x{width}-{form}-{sha256[:16]}-{__version__}"
    cache = cache_folder() / f"{label}.onnx"
    if not cache.is_file():
        print(f"exporting {path.name} at {height}x{width} to {cache}", file=sys.stderr)
        export_onnx(
            network, info, cache, imgsz=(height, width), folded=folded, weights_sha256=sha256
        )
    return cache


def require_torch(purpose: str, instead: str = "") -> None:
    """Raise MissingDependencyError if Torch and what exporting needs are not installed."""
    _require(("torch", "safetensors", "onnx", "onnxscript"), "export", purpose, instead)


def require_training() -> None:
    """Raise MissingDependencyError if what training needs is not installed."""
    _require(("torch", "safetensors", "matplotlib"), "train", "training")


def require_onnx(purpose: str) -> None:
    """Raise MissingDependencyError if `onnx` is not installed; it is small, the extras are not."""
    _require(("onnx",), None, purpose)


def _require(packages: tuple[str, ...], extra: str | None, purpose: str, instead: str = "") -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise MissingDependencyError(package, extra, purpose, instead)


def parse_imgsz(text: str) -> tuple[int, int]:
    """Read '256' or '256x320' as (height, width).

    Raises:
        UsageError: neither, or not multiples of 16.
    """
    from rwkv_edge.preprocess import check_input_size

    sides = text.lower().replace(",", "x").split("x")
    if not all(side.strip().isdecimal() for side in sides) or len(sides) not in (1, 2):
        raise UsageError(f"--imgsz {text}: give SIDE or HEIGHTxWIDTH, for example 256 or 256x320")
    height, width = int(sides[0]), int(sides[-1])
    check_input_size(height, width)
    return height, width
