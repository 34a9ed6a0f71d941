"""TensorRT and TensorRT-RTX: an engine of `rwkv-edge build` on the GPU that it was built for."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rwkv_edge.errors import BackendError
from rwkv_edge.preprocess import FloatArray, UInt8Array
from rwkv_edge.runtime.backend import Backend, load_backend, load_plugin, make_logger
from rwkv_edge.runtime.base import ModelInfo, Runner
from rwkv_edge.runtime.device import Device
from rwkv_edge.runtime.machine import find_gpu
from rwkv_edge.runtime.manifest import Environment, Manifest, read_manifest, verify
from rwkv_edge.runtime.plugin import find_plugin

if TYPE_CHECKING:
    import tensorrt as trt

_IMAGE, _PROBABILITY = "image", "probability"
_MEMORY = re.compile(r"out ?of ?memory|failed to allocate|allocation failed", re.IGNORECASE)


class TensorRTRunner(Runner):
    """An engine with its manifest, its memory taken once, and a CUDA graph where shapes are fixed.

    An engine is code. It is loaded only after its manifest says that it is unchanged and of this
    TensorRT, GPU and plugin; give only paths that the user named, or those of the cache.

    TensorRT's objects are attributes and never local names: the traceback of an error keeps those,
    and with them what must not outlive the GPU's context.

    Args:
        engine: file of `rwkv-edge build`.
        plugins: folders in which the compiled plugin may be, for engines that need it.
        backend: 'tensorrt' or 'tensorrt-rtx'; default: what the manifest names.
        gpu: its index.

    Raises:
        BackendError: the engine is missing, changed or foreign; TensorRT, the plugin or CUDA is
            missing; the GPU has too little memory.
    """

    def __init__(
        self,
        engine: Path,
        plugins: Sequence[Path] = (),
        backend: str | None = None,
        gpu: int = 0,
    ) -> None:
        loaded, manifest, name = _admit(engine, plugins, backend, gpu)
        shapes = manifest.shapes[_IMAGE]
        self._least, self._most = shapes[0][0], shapes[-1][0]
        height, width = shapes[0][1:3]
        self.info = ModelInfo(manifest.variant, manifest.names, (height, width), str(engine))
        self._logger = make_logger(loaded)
        self._name = f"{loaded.name} {loaded.version}"
        self._context: trt.IExecutionContext
        self._engine: trt.ICudaEngine
        self._runtime: trt.Runtime
        self._launch: Callable[[], None] | None = None
        self._device = Device(gpu)
        try:
            with self._device.active():
                self._load(loaded, engine, manifest)
                self._take_memory()
                why_not = self._warm_up()
        except BaseException:
            self.close()
            raise
        graph = f"no CUDA graph: {why_not}" if why_not else "CUDA graph"
        fused = ", our plugin" if manifest.plugin_sha256 else ""
        self.backend = f"{self._name} on {name} ({manifest.precision}{fused}, {graph})"

    def __call__(self, image: UInt8Array) -> FloatArray:
        """See `Runner`; any N, in calls of at most the largest batch of the engine."""
        count = len(image)
        result = np.empty((count, *self._probability_shape), np.float32)
        with self._device.active():
            for start in range(0, count, self._most):
                part = image[start : start + self._most]
                size = max(len(part), self._least)
                self._input[: len(part)] = part
                self._input[len(part) : size] = 0
                self._run(size)
                # a copy, because the next call writes into the same pinned memory
                result[start : start + len(part)] = self._output[: len(part)]
        return result

    def close(self) -> None:
        """Release the graph, the memory, then TensorRT's objects, and the GPU last."""
        self._launch = None
        self._device.close()

    def _load(self, backend: Backend, path: Path, manifest: Manifest) -> None:
        """Deserialise; what is made later is released first."""
        trt_, again = backend.module, shlex.join(manifest.command)
        try:
            self._runtime = trt_.Runtime(self._logger)
        except (RuntimeError, TypeError) as error:
            raise BackendError(f"{self._name} does not start: {self._reason()}") from error
        self._device.at_close(lambda: setattr(self, "_runtime", None))
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise BackendError(
                f"{path}: {self._name} cannot load it ({self._reason()}); build it again: {again}"
            )
        self._device.at_close(lambda: setattr(self, "_engine", None))
        if not _is_ours(backend, self._engine, manifest):
            raise BackendError(
                f"{path}: not an engine of rwkv-edge build (uint8 image in, float32 probability "
                f"out), or not the one of its manifest; build it again: {again}"
            )
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise BackendError(self._failure("the engine", self._engine.device_memory_size_v2))
        self._device.at_close(lambda: setattr(self, "_context", None))

    def _take_memory(self) -> None:
        """Take everything that a call needs, for the largest batch."""
        height, width = self.info.input_size
        self._probability_shape = _sides(self._engine.get_tensor_shape(_PROBABILITY))[1:]
        self._input = self._device.host_array((self._most, height, width, 3), np.uint8)
        self._output = self._device.host_array((self._most, *self._probability_shape), np.float32)
        self._input_address = self._device.allocate(self._input.nbytes)
        self._output_address = self._device.allocate(self._output.nbytes)
        self._context.set_tensor_address(_IMAGE, self._input_address)
        self._context.set_tensor_address(_PROBABILITY, self._output_address)
        self._shaped_for = 0

    def _warm_up(self) -> str | None:
        """Run once, since the first call sets things up; then record, or return why not."""
        self._run(self._most)
        if self._least != self._most:
            return "the batch may change"
        try:
            self._launch = self._device.record(lambda: self._enqueue(self._most))
            self._run(self._most)  # the first launch sets things up, too
        except BackendError as error:
            self._launch = None
            self._run(self._most)  # a GPU that was lost must not look like a missing graph
            return str(error)
        return None

    def _run(self, size: int) -> None:
        """From pinned to pinned memory, for `size` pictures."""
        if self._launch is not None:
            self._launch()
        else:
            try:
                self._enqueue(size)
            except BackendError:
                self._device.synchronize()  # says it better where the GPU itself has failed
                raise
        self._device.synchronize()

    def _enqueue(self, size: int) -> None:
        """Put copy, inference and copy into the stream."""
        self._logger.errors.clear()
        if size != self._shaped_for:
            if not self._context.set_input_shape(_IMAGE, (size, *self.info.input_size, 3)):
                raise BackendError(f"{self._name} refuses a batch of {size}: {self._reason()}")
            self._shaped_for = size
        self._device.upload(self._input_address, self._input[:size])
        if not self._context.execute_async_v3(self._device.stream):
            raise BackendError(self._failure("inference", 0))
        self._device.download(self._output[:size], self._output_address)

    def _failure(self, what: str, size: int) -> str:
        reason = self._reason()
        if _MEMORY.search(reason):
            return self._device.out_of_memory(what, size)
        return f"{what}: {self._name} failed: {reason}"

    def _reason(self) -> str:
        errors: list[str] = self._logger.errors
        return errors[-1] if errors else "it gives no reason"


def _admit(
    engine: Path, plugins: Sequence[Path], wanted: str | None, gpu: int
) -> tuple[Backend, Manifest, str]:
    """Check the engine against all that is here, before any of its bytes are run.

    Returns:
        TensorRT with the plugin loaded, the manifest, and the GPU's name.
    """
    told = read_manifest(engine)
    backend = load_backend(wanted or told.backend)
    device = find_gpu(gpu)
    compiled = [plugin for plugin in map(find_plugin, plugins) if plugin is not None]
    compiled.sort(key=lambda plugin: plugin.sha256 != told.plugin_sha256)
    sha256 = compiled[0].sha256 if compiled else None
    manifest = verify(engine, Environment(backend.name, backend.version, device, sha256))
    if manifest.plugin_sha256 is not None:
        load_plugin(backend, compiled[0].library)
    return backend, manifest, device.name if device else "no GPU"


def _is_ours(backend: Backend, engine: trt.ICudaEngine, manifest: Manifest) -> bool:
    """Compare inputs and outputs with what we export, and with the manifest."""
    kinds = backend.module.DataType
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    if sorted(names) != [_IMAGE, _PROBABILITY]:
        return False
    mode = engine.get_tensor_mode(_IMAGE)
    image, probability = (_sides(engine.get_tensor_shape(name)) for name in sorted(names))
    least, _, most = manifest.shapes[_IMAGE]
    first = least[0] if least == most else -1
    if first == -1:
        profile = [_sides(shape) for shape in engine.get_tensor_profile_shape(_IMAGE, 0)]
        if (profile[0], profile[-1]) != (least, most):
            return False
    return (
        mode == backend.module.TensorIOMode.INPUT
        and engine.get_tensor_dtype(_IMAGE) == kinds.UINT8
        and engine.get_tensor_dtype(_PROBABILITY) == kinds.FLOAT
        and image == (first, *least[1:])
        and len(least) == 4
        and least[3] == 3
        and probability == (first, len(manifest.names), *least[1:3])
    )


def _sides(shape: trt.Dims) -> tuple[int, ...]:
    """Return a shape as a tuple, for which TensorRT's own type only stands in."""
    return tuple(shape[index] for index in range(len(shape)))
