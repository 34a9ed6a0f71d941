"""CUDA's driver API through pycuda, which is compiled on the device and knows no CUDA graphs."""
# ruff: noqa: D102  (`Driver` says what the methods do)

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from rwkv_edge.preprocess import UInt8Array
from rwkv_edge.runtime.cuda import CudaError, Driver, Failure


class PyCuda(Driver):
    """pycuda, whose objects free themselves and whose errors carry words only."""

    package = "pycuda"
    has_graphs = False
    _NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING, which pycuda does not name
    _LOST = (
        "illegal",
        "launch failure",
        "launch timed out",
        "misaligned",
        "assert",
        "ECC",
        "unknown",
    )

    def __init__(self) -> None:
        self._cuda: Any = importlib.import_module("pycuda.driver")
        self._context: Any = None
        self._held: dict[int, Any] = {}
        """Streams and memory by handle or address."""
        with self._translated():
            self._cuda.init()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self._cuda.Error as error:
            text = str(error)
            if isinstance(error, self._cuda.MemoryError):
                failure = Failure.MEMORY
            else:
                reason = text.split(": ", 1)[-1]
                lost = any(word in reason for word in self._LOST)
                failure = Failure.LOST if lost else Failure.OTHER
            raise CudaError(failure, text) from error

    def retain(self, index: int) -> None:
        with self._translated():
            self._context = self._cuda.Device(index).retain_primary_context()

    def release(self) -> None:
        context, self._context = self._context, None
        with self._translated():
            context.detach()

    def push(self) -> None:
        with self._translated():
            self._context.push()

    def pop(self) -> None:
        with self._translated():
            self._cuda.Context.pop()

    def memory(self) -> tuple[int, int]:
        with self._translated():
            free, total = self._cuda.mem_get_info()
        return int(free), int(total)

    def create_stream(self) -> int:
        with self._translated():
            stream = self._cuda.Stream(self._NON_BLOCKING)
        self._held[stream.handle] = stream
        return int(stream.handle)

    def destroy_stream(self, stream: int) -> None:
        del self._held[stream]

    def synchronize(self, stream: int) -> None:
        with self._translated():
            self._held[stream].synchronize()

    def allocate(self, size: int) -> int:
        with self._translated():
            memory = self._cuda.mem_alloc(size)
        self._held[int(memory)] = memory
        return int(memory)

    def free(self, address: int) -> None:
        with self._translated():
            self._held.pop(address).free()

    def allocate_host(self, size: int) -> UInt8Array:
        with self._translated():
            memory: UInt8Array = self._cuda.pagelocked_empty(size, np.uint8)
        return memory

    def free_host(self, memory: UInt8Array) -> None:
        with self._translated():
            memory.base.free()  # type: ignore[union-attr]

    def upload(self, address: int, source: np.ndarray[Any, Any], stream: int) -> None:
        with self._translated():
            self._cuda.memcpy_htod_async(address, source, self._held[stream])

    def download(self, target: np.ndarray[Any, Any], address: int, stream: int) -> None:
        with self._translated():
            self._cuda.memcpy_dtoh_async(target, address, self._held[stream])
