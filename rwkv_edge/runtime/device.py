"""A CUDA GPU as an engine needs it: a context, a stream, memory, copies and a recorded graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from rwkv_edge.errors import BackendError
from rwkv_edge.runtime.cuda import CudaError, Driver, Failure, open_driver

_MIB = 1 << 20


class Device:
    """A GPU's primary context with one stream, and everything that was taken on it.

    What is taken is given back in the reverse order when the device is closed. The primary context
    is shared, so several devices may stand on one GPU, beside Torch or another engine.

    Args:
        index: of the GPU.

    Raises:
        BackendError: no package, no driver, no such GPU, or it does not answer.
    """

    def __init__(self, index: int = 0) -> None:
        self._driver: Driver = open_driver()
        self._releases: list[Callable[[], None]] = []
        try:
            with self._in_words(f"GPU {index}"):
                self._driver.retain(index)
                self._releases.append(self._driver.release)
            with self.active(), self._in_words("a stream"):
                self.stream = self._driver.create_stream()
                self.at_close(lambda: self._driver.destroy_stream(self.stream))
        except BaseException:
            self.close()
            raise

    @property
    def why_no_graphs(self) -> str | None:
        """None where graphs can be recorded, else the reason why not."""
        return None if self._driver.has_graphs else f"{self._driver.package} has none"

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make the context current in this thread; everything below happens inside.

        Raises:
            BackendError: the device was closed, or does not answer.
        """
        if not self._releases:
            raise BackendError("the GPU was released: this model was closed before")
        with self._in_words("the GPU"):
            self._driver.push()
        try:
            yield
        finally:
            with suppress(CudaError):  # what went wrong before says more
                self._driver.pop()

    def at_close(self, release: Callable[[], None]) -> None:
        """Have `release` called when the device is closed, before what was taken earlier goes."""
        self._releases.append(release)

    def host_array(self, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray[Any, Any]:
        """Return pinned memory, zeroed. It must not be touched after the device is closed."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        with self._in_words("pinned memory", size):
            memory = self._driver.allocate_host(size)
        self.at_close(lambda: self._driver.free_host(memory))
        memory[:] = 0
        return memory.view(dtype).reshape(shape)

    def allocate(self, size: int) -> int:
        """Return the address of memory on the GPU, in bytes."""
        with self._in_words("a buffer", size):
            address = self._driver.allocate(size)
        self.at_close(lambda: self._driver.free(address))
        return address

    def upload(self, address: int, source: np.ndarray[Any, Any]) -> None:
        """Copy a contiguous pinned array to the GPU, in the stream."""
        with self._in_words("a copy to the GPU"):
            self._driver.upload(address, source, self.stream)

    def download(self, target: np.ndarray[Any, Any], address: int) -> None:
        """Copy from the GPU into a contiguous pinned array, in the stream."""
        with self._in_words("a copy from the GPU"):
            self._driver.download(target, address, self.stream)

    def synchronize(self) -> None:
        """Wait until the stream is empty."""
        with self._in_words("the work of the GPU"):
            self._driver.synchronize(self.stream)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record what `work` puts into the stream as a CUDA graph.

        Returns:
            A function that puts all of it into the stream again, in one call.

        Raises:
            BackendError: it cannot be recorded; the stream is usable as before.
        """
        if self.why_no_graphs:
            raise BackendError(self.why_no_graphs)
        with self._in_words("a CUDA graph"):
            self._driver.begin_capture(self.stream)
            try:
                work()
            except BaseException:
                with suppress(CudaError):
                    self._driver.destroy_graph(self._driver.end_capture(self.stream))
                raise
            graph = self._driver.end_capture(self.stream)
        self.at_close(lambda: self._driver.destroy_graph(graph))

        def launch() -> None:
            with self._in_words("the work of the GPU"):
                self._driver.launch(graph, self.stream)

        return launch

    def close(self) -> None:
        """Give everything back, the last first. A second call does nothing."""
        if not self._releases:
            return
        # on a device that was lost every call fails; what else is to be released still is
        pushed = False
        with suppress(CudaError):
            self._driver.push()
            pushed = True
        while self._releases:
            if len(self._releases) == 1 and pushed:  # the context itself is the last
                with suppress(CudaError):
                    self._driver.pop()
            with suppress(CudaError):
                self._releases.pop()()

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def _in_words(self, what: str, size: int = 0) -> Iterator[None]:
        try:
            yield
        except CudaError as error:
            raise BackendError(self._explain(error, what, size)) from error

    def _explain(self, error: CudaError, what: str, size: int) -> str:
        if error.failure is Failure.LOST:
            return f"the GPU stopped answering ({error}); restart the program, then the machine"
        if error.failure is Failure.MEMORY:
            return self.out_of_memory(what, size)
        return f"{what}: CUDA failed ({error})"

    def out_of_memory(self, what: str, size: int) -> str:
        """Say how much was wanted and how much there is."""
        needs = f"{what} needs {-(-size // _MIB)} MiB" if size else f"{what} needs more memory"
        try:
            free, total = self._driver.memory()
            there = f"{free // _MIB} MiB of {total // _MIB} MiB are free"
        except CudaError:
            there = "and there is too little"
        return (
            f"the GPU is full: {needs}, {there}; close other programs or lower --imgsz or --batch"
        )
