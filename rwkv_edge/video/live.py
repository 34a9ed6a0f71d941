"""What the live path hands from thread to thread and to whoever looks: frames, states, controls."""

from __future__ import annotations

import threading
from dataclasses import dataclass, fields, replace
from enum import Enum

from rwkv_edge.config import DEFAULT_CONFIDENCE
from rwkv_edge.errors import UsageError
from rwkv_edge.preprocess import UInt8Array
from rwkv_edge.video.base import Frame
from rwkv_edge.video.result import Result


class Signal(str, Enum):
    """What is known about the source at this moment."""

    LIVE = "LIVE"
    STALLED = "STALLED"
    """Frames should have come and did not."""
    NO_SIGNAL = "NO SIGNAL"
    RECONNECTING = "RECONNECTING"
    ENDED = "ENDED"
    """A file has come to its end; nothing will follow."""


@dataclass(frozen=True)
class LiveFrame:
    """What is on the screen at one moment."""

    image: UInt8Array
    """(h, w, 3) uint8 BGR as shown: the overlay, or the picture or a black one with the state."""
    result: Result | None
    """A new segmentation: the one behind the image, while that is held a later one; None where
    there is none, or it is too old to be shown."""
    signal: Signal
    captured: float
    """time.monotonic() at which the picture was captured, in seconds."""
    fps: float
    """Results a second, over the last moments."""
    dropped: int
    """Frames that were overtaken by newer ones since the start."""
    recording: bool
    backend: str
    frame: Frame | None = None
    """The picture behind `image`, not drawn on; None where none is shown."""


@dataclass(frozen=True)
class View:
    """What a viewer may change while the stream runs."""

    confidence: float = DEFAULT_CONFIDENCE
    """Probability from which a pixel belongs to the mask, 0 to 1."""
    fill: float = 0.35
    """Opacity of the fill, 0 to 1."""
    contour: bool = True
    frozen: bool = False
    """Hold the picture; inference goes on."""
    recording: bool = False


class Controls:
    """The current `View`, shared by the pipeline's threads and everyone who looks."""

    def __init__(self, view: View | None = None) -> None:
        self._lock = threading.Lock()
        self._view = view or View()

    @property
    def view(self) -> View:
        """The settings now; an immutable object, so that a frame is drawn with one set."""
        return self._view

    def update(self, **changes: float | bool) -> View:
        """Change some settings at once.

        Raises:
            UsageError: an unknown name, a wrong type, or a share outside 0..1.
        """
        types = {field.name: field.type for field in fields(View)}
        for name, value in changes.items():
            if name not in types:
                raise UsageError(f"no setting '{name}'; there are {', '.join(types)}")
            if types[name] == "bool":
                if not isinstance(value, bool):
                    raise UsageError(f"{name} must be true or false, got {value!r}")
            elif isinstance(value, bool) or not isinstance(value, int | float):
                raise UsageError(f"{name} must be a number, got {value!r}")
            elif not 0 <= value <= 1:
                raise UsageError(f"{name}: it must lie between 0 and 1")
        with self._lock:
            self._view = replace(self._view, **changes)  # type: ignore[arg-type]
            return self._view
