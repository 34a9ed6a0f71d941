"""From a serialised ONNX model to a serialised TensorRT engine.

One path for TensorRT 10.3 to 11 and TensorRT-RTX: networks are strongly typed, so precision stands
in the model and no builder flag speaks of it. Type-checked against TensorRT's stubs.
"""

from __future__ import annotations

import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rwkv_edge.errors import BackendError, UsageError
from rwkv_edge.files import atomic_path
from rwkv_edge.operators import NAMES
from rwkv_edge.runtime.backend import TENSORRT, TENSORRT_RTX, Backend, make_logger
from rwkv_edge.runtime.machine import find_gpu

if TYPE_CHECKING:
    import tensorrt as trt

_MEMORY = re.compile(r"out ?of ?memory|OutOfMemory|insufficient (workspace|memory)", re.IGNORECASE)
_NODE = re.compile(r"implementation for node \{?(?:ForeignNode\[)?([^\]\}]+)")


@dataclass(frozen=True)
class Batch:
    """Pictures in one call of the engine."""

    minimum: int = 1
    optimum: int = 1
    maximum: int = 1

    @property
    def is_fixed(self) -> bool:
        """Whether the engine takes one size only."""
        return self.minimum == self.maximum


@dataclass(frozen=True)
class Target:
    """What the engine is built for, and with how much."""

    compute_capability: str | None = None
    """'8.6', of another device than this; TensorRT-RTX alone builds ahead of time."""
    workspace: int | None = None
    """Scratch memory in bytes that a layer may use; None leaves it to TensorRT."""
    timing_cache: Path | None = None


@dataclass(frozen=True)
class BuiltEngine:
    """A serialised engine, and the layers of the network that it was built from."""

    plan: bytes
    layers: dict[str, int]
    """Number of layers by TensorRT's type, for example {'CONVOLUTION': 54, 'PLUGIN_V3': 4}."""
    plugin_layers: tuple[str, ...]


def check_target(backend: Backend, target: Target) -> None:
    """Refuse what the backend cannot build for, before any work is done for it.

    Raises:
        UsageError: a compute capability or an option that the backend does not have.
        BackendError: it needs the GPU that it builds for, and there is none here.
    """
    if target.timing_cache is not None and backend.name == TENSORRT_RTX:
        raise UsageError(f"--timing-cache: {TENSORRT_RTX} times nothing when it builds")
    if target.compute_capability is None:
        if backend.name == TENSORRT and find_gpu() is None:
            raise BackendError(
                "tensorrt builds on the GPU that it builds for, and there is none here"
            )
        return
    known = getattr(backend.module, "ComputeCapability", None)
    if backend.name != TENSORRT_RTX or known is None:
        raise UsageError(
            f"--compute-capability: {backend.name} builds for the GPU that it runs on; "
            f"--backend {TENSORRT_RTX} builds ahead of time"
        )
    if not hasattr(known, _rtx_name(target.compute_capability)):
        offered = [f"{n[2:-1]}.{n[-1]}" for n in known.__members__ if n.startswith("SM")]
        raise UsageError(
            f"--compute-capability {target.compute_capability}: {TENSORRT_RTX} {backend.version} "
            f"builds for {', '.join(offered)}; for another GPU, build on it"
        )


def build_engine(
    backend: Backend,
    model: bytes,
    batch: Batch,
    target: Target,
    advance: Callable[[], None] = lambda: None,
) -> BuiltEngine:
    """Build an engine.

    Args:
        backend: from `load_backend`, with the plugin loaded if the model asks for it.
        model: serialised ONNX; its precision is the engine's.
        batch: optimisation profile of the input's first dimension, if that is dynamic.
        target: device and resources.
        advance: called after each step of TensorRT's.

    Raises:
        UsageError: as `check_target`.
        BackendError: as `check_target`; or the parser or the builder refuses, and the message names
            the layer.
    """
    check_target(backend, target)
    logger = make_logger(backend)
    trt_ = backend.module
    try:
        builder: trt.Builder = trt_.Builder(logger)
    except (RuntimeError, TypeError) as error:
        raise BackendError(_explain(backend, logger.errors)) from error
    strongly_typed = 1 << int(trt_.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network: trt.INetworkDefinition = builder.create_network(strongly_typed)
    parser: trt.OnnxParser = trt_.OnnxParser(network, logger)
    if not parser.parse(model):
        raise BackendError(_explain_parser(backend, parser, logger.errors))
    config: trt.IBuilderConfig = builder.create_builder_config()
    _aim(backend, config, target)
    _add_profile(backend, builder, network, config, batch)
    cache = _use_timing_cache(config, target.timing_cache) if target.timing_cache else None
    monitor = _make_monitor(backend, advance)
    config.progress_monitor = monitor
    with _interruptible(monitor):
        plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BackendError(_explain(backend, logger.errors))
    if target.timing_cache is not None and cache is not None:
        with atomic_path(target.timing_cache) as temporary:
            temporary.write_bytes(memoryview(cache.serialize()))
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    return BuiltEngine(
        bytes(memoryview(plan)),
        dict(Counter(layer.type.name for layer in layers)),
        tuple(layer.name for layer in layers if layer.type.name == "PLUGIN_V3"),
    )


def _aim(backend: Backend, config: trt.IBuilderConfig, target: Target) -> None:
    if target.workspace is not None:
        config.set_memory_pool_limit(backend.module.MemoryPoolType.WORKSPACE, target.workspace)
    if target.compute_capability is None:
        return
    rtx: Any = config  # what follows is TensorRT-RTX's alone
    known = backend.module.ComputeCapability
    rtx.num_compute_capabilities = 1
    rtx.set_compute_capability(getattr(known, _rtx_name(target.compute_capability)), 0)


def _rtx_name(compute_capability: str) -> str:
    return "SM" + compute_capability.replace(".", "")


def _add_profile(
    backend: Backend,
    builder: trt.Builder,
    network: trt.INetworkDefinition,
    config: trt.IBuilderConfig,
    batch: Batch,
) -> None:
    image = network.get_input(0)
    if image.shape[0] != -1:
        return
    height, width = image.shape[1], image.shape[2]
    profile = builder.create_optimization_profile()
    least, likeliest, largest = (
        backend.module.Dims4(size, height, width, 3)
        for size in (batch.minimum, batch.optimum, batch.maximum)
    )
    profile.set_shape(image.name, least, likeliest, largest)
    config.add_optimization_profile(profile)


def _use_timing_cache(config: trt.IBuilderConfig, path: Path) -> trt.ITimingCache:
    """Give the builder what earlier builds timed; a damaged or foreign cache starts anew."""
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def _make_monitor(backend: Backend, advance: Callable[[], None]) -> Any:
    class Monitor(backend.module.IProgressMonitor):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.cancelled = False

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            """Steps are what is shown, not phases."""

        def step_complete(self, phase: str, step: int) -> bool:
            advance()
            return not self.cancelled

        def phase_finish(self, phase: str) -> None:
            """See `phase_start`."""

    return Monitor()


@contextmanager
def _interruptible(monitor: Any) -> Iterator[None]:
    """Let Ctrl-C stop the build between two steps: an exception must not cross TensorRT's code."""

    def cancel(*_: object) -> None:
        monitor.cancelled = True

    if threading.current_thread() is not threading.main_thread():  # which alone gets signals
        yield
        return
    previous = signal.signal(signal.SIGINT, cancel)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if monitor.cancelled:
        raise KeyboardInterrupt


def _explain_parser(backend: Backend, parser: trt.OnnxParser, errors: list[str]) -> str:
    if parser.num_errors == 0:
        return _explain(backend, errors)
    error = parser.get_error(parser.num_errors - 1)
    where = f"layer '{error.node_name()}' ({error.node_operator()})"
    if error.node_operator() in NAMES:
        return f"{where}: the plugin is missing; rwkv-edge plugin build, or build with --no-plugin"
    reason = " ".join(error.desc().split())
    if not error.node_name():
        return f"{backend.name} {backend.version} does not read the model: {reason}"
    return f"{backend.name} {backend.version} does not support {where}: {reason}"


def _explain(backend: Backend, errors: list[str]) -> str:
    text = " ".join(errors) or "it gives no reason"
    if _MEMORY.search(text):
        return (
            f"{backend.name} ran out of memory while building; close other programs, add swap, or "
            "lower --workspace (in MiB), --imgsz or --batch"
        )
    node = _NODE.search(text)
    if node:
        return (
            f"{backend.name} finds no way to run layer '{node[1]}'; raise --workspace (in MiB), or "
            "try another --precision"
        )
    return f"{backend.name} {backend.version} failed: {errors[-1] if errors else text}"
