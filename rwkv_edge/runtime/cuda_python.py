"""CUDA's driver API through NVIDIA's cuda-python, which has wheels for x86-64 and aarch64."""
# ruff: noqa: D102  (`Driver` says what the methods do)

from __future__ import annotations

import ctypes
import importlib
from typing import Any

import numpy as np

from rwkv_edge.preprocess import UInt8Array
from rwkv_edge.runtime.cuda import CudaError, Driver, Failure


class CudaPython(Driver):
    """NVIDIA's cuda-python, whose functions return a code and the values."""

    package = "cuda-python"
    has_graphs = True
    _MEMORY = frozenset({2})
    _LOST = frozenset(
        {46, 214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 911, 999}
    )
    """Codes after which the context is unusable: NVIDIA's descriptions of CUresult say so."""

    def __init__(self) -> None:
        self._cuda: Any = importlib.import_module("cuda.bindings.driver")
        self._context: Any = None
        self._call(self._cuda.cuInit, 0)

    def _call(self, function: Any, *arguments: Any) -> Any:
        code, *values = function(*arguments)
        if int(code) != 0:
            if int(code) in self._MEMORY:
                failure = Failure.MEMORY
            else:
                failure = Failure.LOST if int(code) in self._LOST else Failure.OTHER
            raise CudaError(failure, f"{getattr(code, 'name', code)} in {function.__name__}")
        return values[0] if len(values) == 1 else values

    def retain(self, index: int) -> None:
        self._device = self._call(self._cuda.cuDeviceGet, index)
        self._context = self._call(self._cuda.cuDevicePrimaryCtxRetain, self._device)

    def release(self) -> None:
        self._context = None
        self._call(self._cuda.cuDevicePrimaryCtxRelease, self._device)

    def push(self) -> None:
        self._call(self._cuda.cuCtxPushCurrent, self._context)

    def pop(self) -> None:
        self._call(self._cuda.cuCtxPopCurrent)

    def memory(self) -> tuple[int, int]:
        free, total = self._call(self._cuda.cuMemGetInfo)
        return int(free), int(total)

    def create_stream(self) -> int:
        non_blocking = self._cuda.CUstream_flags.CU_STREAM_NON_BLOCKING
        return int(self._call(self._cuda.cuStreamCreate, non_blocking))

    def destroy_stream(self, stream: int) -> None:
        self._call(self._cuda.cuStreamDestroy, stream)

    def synchronize(self, stream: int) -> None:
        self._call(self._cuda.cuStreamSynchronize, stream)

    def allocate(self, size: int) -> int:
        return int(self._call(self._cuda.cuMemAlloc, size))

    def free(self, address: int) -> None:
        self._call(self._cuda.cuMemFree, address)

    def allocate_host(self, size: int) -> UInt8Array:
        address = int(self._call(self._cuda.cuMemHostAlloc, size, 0))
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def free_host(self, memory: UInt8Array) -> None:
        self._call(self._cuda.cuMemFreeHost, memory.ctypes.data)

    def upload(self, address: int, source: np.ndarray[Any, Any], stream: int) -> None:
        pointer, size = source.ctypes.data, source.nbytes
        self._call(self._cuda.cuMemcpyHtoDAsync, address, pointer, size, stream)

    def download(self, target: np.ndarray[Any, Any], address: int, stream: int) -> None:
        pointer, size = target.ctypes.data, target.nbytes
        self._call(self._cuda.cuMemcpyDtoHAsync, pointer, address, size, stream)

    def begin_capture(self, stream: int) -> None:
        # of this thread alone: what other threads do meanwhile neither enters nor spoils the graph
        mode = self._cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._call(self._cuda.cuStreamBeginCapture, stream, mode)

    def end_capture(self, stream: int) -> int:
        graph = self._call(self._cuda.cuStreamEndCapture, stream)
        try:
            return int(self._call(self._cuda.cuGraphInstantiate, graph, 0))
        finally:
            self._call(self._cuda.cuGraphDestroy, graph)

    def launch(self, graph: int, stream: int) -> None:
        self._call(self._cuda.cuGraphLaunch, graph, stream)

    def destroy_graph(self, graph: int) -> None:
        self._call(self._cuda.cuGraphExecDestroy, graph)
