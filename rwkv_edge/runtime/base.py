"""What every runtime offers: a model that maps uint8 pictures to probabilities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType

import numpy as np

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

    @classmethod
    def from_properties(
        cls, properties: Mapping[str, str], input_size: tuple[int, int], source: str
    ) -> ModelInfo:
        """Read what `rwkv-edge export` wrote into a file's metadata properties."""
        names = tuple(properties.get("names", "polyp").split(","))
        return cls(properties.get("variant", "unknown"), names, input_size, source)


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


def run_in_batches(
    image: UInt8Array, batch: int, run: Callable[[UInt8Array], FloatArray]
) -> FloatArray:
    """Run a model of a fixed batch on any number of pictures; the last call is filled with zeros.

    Args:
        image: (N, H, W, 3) uint8.
        batch: pictures in one call.
        run: the call, (batch, H, W, 3) contiguous to (batch, classes, H, W).

    Returns:
        (N, classes, H, W).
    """
    parts = []
    for start in range(0, len(image), batch):
        part = image[start : start + batch]
        missing = batch - len(part)
        fed = np.pad(part, ((0, missing), (0, 0), (0, 0), (0, 0))) if missing else part
        parts.append(run(np.ascontiguousarray(fed))[: len(part)])
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
