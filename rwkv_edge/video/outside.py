"""What leaves the pipeline of a frame: nothing of what its user wants hidden beside the view."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rwkv_edge.config import Outside
from rwkv_edge.video.base import Frame
from rwkv_edge.video.field_of_view import FieldOfView
from rwkv_edge.video.result import Result


def hide_outside(frame: Frame, view: FieldOfView | None, outside: Outside) -> Frame:
    """Return the frame as it may be seen; black where no field of view of its size is known."""
    if outside is Outside.SHOW:
        return frame
    if view is None or view.region.shape != frame.image.shape[:2]:
        return replace(frame, image=np.zeros_like(frame.image))
    return replace(frame, image=view.without_outside(frame.image, outside))


def hide_outside_result(result: Result, outside: Outside) -> Result:
    """Return the result on such a frame; boxes count from the corner of a cropped one."""
    frame = hide_outside(result.frame, result.view, outside)
    if frame.image.shape == result.frame.image.shape or result.view is None:
        return replace(result, frame=frame)
    left, top, _, _ = result.view.box
    components = [
        replace(found, box=(found.box[0] - left, found.box[1] - top, *found.box[2:]))
        for found in result.components
    ]
    return replace(result, frame=frame, mask=result.mask[result.view.window], components=components)
