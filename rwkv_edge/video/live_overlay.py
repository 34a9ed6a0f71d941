"""What a person sees on the live screen, whether there is a picture, a mask, or neither."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rwkv_edge.drawing import mark_research_use
from rwkv_edge.preprocess import UInt8Array
from rwkv_edge.video.live import Signal, View
from rwkv_edge.video.overlay import (
    draw_overlay,
    enlarge_for_words,
    frame_in_amber,
    write_head,
    write_warning,
)
from rwkv_edge.video.result import Result

BLANK_SIZE = (480, 640)
"""Height and width of the screen before the first frame."""


def draw_mask_screen(result: Result, head: Sequence[str], view: View) -> UInt8Array:
    """Draw a fresh result onto its own frame."""
    return draw_overlay(result, head, view.fill, contour=view.contour)


def draw_plain_screen(
    image: UInt8Array | None, head: Sequence[str], signal: Signal, warning: str = ""
) -> UInt8Array:
    """Draw a picture without a mask, or black with the state of the signal.

    Args:
        image: the last picture, (h, w, 3) uint8 BGR; None before the first.
        head: lines for the upper left corner.
        signal: anything but LIVE is written across the middle.
        warning: why there is no mask, a line below the head.
    """
    if image is None:
        image = np.zeros((*BLANK_SIZE, 3), np.uint8)
    drawn: UInt8Array = enlarge_for_words(image).copy()
    if signal is Signal.LIVE:
        frame_in_amber(drawn)  # what is wrong stands in the head; the picture stays free
        write_head(drawn, [*head, warning] if warning else head)
    else:
        drawn //= 3  # visibly not the present
        if signal is not Signal.STALLED:
            drawn[:] = 0
        write_head(drawn, head)
        write_warning(drawn, signal.value)
    mark_research_use(drawn)
    return drawn
