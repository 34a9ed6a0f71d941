"""What every source offers: frames, and what is known about them beforehand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Literal

from rwkv_edge.preprocess import UInt8Array


@dataclass(frozen=True)
class Frame:
    """One picture on its way through the pipeline."""

    index: int
    """Number within the source, from 0; frames that the stride skips count too."""
    time_s: float
    """Seconds since the first frame, by the file's time stamps or the clock; 0 for still images."""
    image: UInt8Array
    """(h, w, 3) uint8 BGR."""
    name: str
    """A file name without suffix, unique in the source: an image's own, or the frame number."""
    captured: float = 0.0
    """time.monotonic() at which a live source captured it, in seconds; 0 for files."""


class Source(ABC):
    """A sequence of frames that can be walked once. Close it, or use it as a context manager."""

    kind: ClassVar[Literal["images", "video", "camera", "stream"]]
    count: int | None = None
    """Frames to expect after the stride; a container's word may be wrong. None: unknown."""
    fps: float | None = None
    """Frames a second after the stride. None: still images, or a camera that does not say."""
    files: Sequence[Path] = ()
    """What is read, so that nobody writes over it."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        """One line for each thing that went wrong without ending the walk."""

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames.

        Raises:
            SourceError: nothing at all could be read, or a camera fell silent.
        """

    def close(self) -> None:  # noqa: B027
        """Release the file or the camera."""

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
