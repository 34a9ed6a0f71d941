"""The calls of CUDA's driver API that we need, whichever package makes them.

Addresses, streams and graphs are plain integers here. `rwkv_edge.runtime.device` turns failures
into words.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import Any

import numpy as np

from rwkv_edge.errors import BackendError
from rwkv_edge.preprocess import UInt8Array


class Failure(Enum):
    """What a failed call means for the user."""

    MEMORY = "no memory"
    LOST = "the device does not answer, or every later call fails too"
    OTHER = "anything else"


class CudaError(Exception):
    """A call of the driver failed."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure


class Driver(ABC):
    """One GPU's primary context. All but `retain` and `push` need it to be current."""

    package: str
    has_graphs: bool

    @abstractmethod
    def retain(self, index: int) -> None:
        """Take the primary context of a GPU, which other libraries in the process use too."""

    @abstractmethod
    def release(self) -> None:
        """Give the context back."""

    @abstractmethod
    def push(self) -> None:
        """Make the context this thread's current one."""

    @abstractmethod
    def pop(self) -> None:
        """Make the one before current again."""

    @abstractmethod
    def memory(self) -> tuple[int, int]:
        """Return free and total bytes."""

    @abstractmethod
    def create_stream(self) -> int:
        """Return a stream that waits for no other."""

    @abstractmethod
    def destroy_stream(self, stream: int) -> None:
        """Give a stream back."""

    @abstractmethod
    def synchronize(self, stream: int) -> None:
        """Wait until the stream is empty."""

    @abstractmethod
    def allocate(self, size: int) -> int:
        """Return the address of memory on the GPU."""

    @abstractmethod
    def free(self, address: int) -> None:
        """Give memory of the GPU back."""

    @abstractmethod
    def allocate_host(self, size: int) -> UInt8Array:
        """Return pinned memory, which copies can run from while the CPU goes on."""

    @abstractmethod
    def free_host(self, memory: UInt8Array) -> None:
        """Give pinned memory back."""

    @abstractmethod
    def upload(self, address: int, source: np.ndarray[Any, Any], stream: int) -> None:
        """Copy to the GPU, in the stream."""

    @abstractmethod
    def download(self, target: np.ndarray[Any, Any], address: int, stream: int) -> None:
        """Copy from the GPU, in the stream."""

    def begin_capture(self, stream: int) -> None:
        """Record what is put into the stream instead of running it."""
        raise NotImplementedError

    def end_capture(self, stream: int) -> int:
        """Return what was recorded as a graph that can be launched."""
        raise NotImplementedError

    def launch(self, graph: int, stream: int) -> None:
        """Put all that was recorded into the stream."""
        raise NotImplementedError

    def destroy_graph(self, graph: int) -> None:
        """Give a graph back."""
        raise NotImplementedError


def open_driver() -> Driver:
    """Return cuda-python where it can be used, else pycuda, which has no CUDA graphs.

    Raises:
        BackendError: neither is installed, or CUDA's driver is not.
    """
    from rwkv_edge.runtime.cuda_python import CudaPython
    from rwkv_edge.runtime.pycuda import PyCuda

    kinds: tuple[type[Driver], ...] = (CudaPython, PyCuda)
    reasons = []
    for kind in kinds:
        try:
            return kind()
        except ModuleNotFoundError:
            continue
        except (ImportError, RuntimeError, CudaError) as error:
            reasons.append(f"{kind.package}: {str(error).splitlines()[0]}")
    if reasons:
        raise BackendError(
            f"CUDA's driver cannot be used ({'; '.join(reasons)}); install NVIDIA's driver, or "
            "start the program outside the container that hides it"
        )
    raise BackendError(
        "running an engine needs the package cuda-python or pycuda; install it with "
        "pip install cuda-python, in the version of your CUDA (JetPack 6: 'cuda-python==12.6.*')"
    )
