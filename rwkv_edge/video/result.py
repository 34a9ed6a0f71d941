"""What the pipeline decided about one frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rwkv_edge.preprocess import Component, UInt8Array
from rwkv_edge.video.base import Frame
from rwkv_edge.video.field_of_view import FieldOfView


@dataclass
class Result:
    """A frame, its mask and what it took to get there."""

    frame: Frame
    mask: UInt8Array
    """(h, w) uint8 class labels at the frame's own size; all 0 where the output was invalid."""
    components: Sequence[Component]
    names: Sequence[str]
    """The foreground classes: label 1 is the first."""
    valid: bool
    """False where the network's output was not a probability; nothing of it is shown then."""
    latency_ms: dict[str, float]
    """Milliseconds by stage, see `segmenting.STAGES`."""
    view: FieldOfView | None = None
    """Where the endoscope's picture lies in the frame; None where it is not sought or not found."""
    overlay: UInt8Array | None = None
    """(h', w', 3) uint8 BGR as `overlay.draw_overlay` makes it; None where nobody wanted one."""

    @property
    def total_ms(self) -> float:
        """All stages together, in milliseconds."""
        return sum(self.latency_ms.values())

    def as_dict(self) -> dict[str, Any]:
        """Return one JSON line of `rwkv-edge run`.

        `box` is left, top, width and height; boxes and areas are in pixels of the frame.
        """
        return {
            "frame": self.frame.index,
            "name": self.frame.name,
            "time_s": round(self.frame.time_s, 6),
            "valid": self.valid,
            "latency_ms": {stage: round(value, 3) for stage, value in self.latency_ms.items()},
            "components": [
                {
                    "class": self.names[component.label - 1],
                    "area": component.area,
                    "box": list(component.box),
                    "confidence": round(component.confidence, 4),
                }
                for component in self.components
            ],
        }
