"""What every runtime offers: a model that maps uint8 pictures to probabilities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType

from rwkv_edge.preprocess import FloatArray, UInt8Array


@dataclass(frozen=True)
class ModelInfo:
    """What a loaded model says about itself."""

    variant: str
    names: tuple[str, ...]
    """The classes: one name for a binary model; with several, the background is the first."""
    input_size: tuple[int, int]
    """Height and width of the network input, in pixels."""
    source: str
    """Where it came from: a file, or the shipped weights."""


class Runner(ABC):
    """A model on a runtime. Call it; close it, or use it as a context manager."""

    info: ModelInfo
    backend: str
    """What really runs, in words: 'onnxruntime 1.32 on CPUExecutionProvider'."""
    stage_ms: Mapping[str, float] = {}
    """Milliseconds of 'host-to-device' and 'device-to-host' in the last call, where a runtime tells
    them apart from the inference."""

    @abstractmethod
    def __call__(self, image: UInt8Array) -> FloatArray:
        """Segment pictures.

        Args:
            image: (N, H, W, 3) uint8 BGR of the model's input size.

        Returns:
            (N, classes, H, W) float32 probabilities in 0..1.

        Raises:
            BackendError: the runtime failed.
        """

    def close(self) -> None:  # noqa: B027
        """Release what the runtime holds."""

    def __enter__(self) -> Runner:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
