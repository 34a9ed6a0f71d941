"""The picture a person looks at: mask, confidence of each component, speed, and the notice."""

from __future__ import annotations

from collections.abc import Sequence

import cv2

from rwkv_edge.drawing import (
    FONT,
    draw_mask,
    line_width,
    mark_research_use,
    put_text,
    text_thickness,
)
from rwkv_edge.preprocess import UInt8Array
from rwkv_edge.video.result import Result

MIN_WIDTH = 240
"""Pixels below which the notice could not be read."""
_MAX_HEIGHT = 1920  # no further enlargement of tall, narrow strips
_LABELLED = 5  # the largest components get a label; more would hide the picture
_WARNING_COLOUR = (0, 215, 255)  # amber, BGR


def draw_overlay(
    result: Result, head: Sequence[str] = (), alpha: float = 0.35, *, contour: bool = True
) -> UInt8Array:
    """Draw a result onto its frame.

    Args:
        result: what the pipeline decided.
        head: lines for the upper left corner, such as the frame rate.
        alpha: opacity of the fill, 0 to 1.
        contour: whether to draw the outlines.

    Returns:
        (h, w, 3) uint8 BGR of the frame's size. A frame narrower than `MIN_WIDTH` is enlarged by a
        whole number, for the words on it would be unreadable.
    """
    factor = _factor(result.mask.shape)
    image, mask = _enlarge(result.frame.image, factor), _enlarge(result.mask, factor)
    drawn = draw_mask(image, mask, alpha, contour=contour)
    head_bottom = write_head(drawn, head)
    for component in reversed(result.components[:_LABELLED]):  # the largest on top
        words = f"{result.names[component.label - 1]} {component.confidence:.2f}"
        left, top, _, _ = (factor * side for side in component.box)
        _write_label(drawn, words, left, top, head_bottom)
    if not result.valid:
        write_warning(drawn, "OUTPUT INVALID")
    mark_research_use(drawn)
    return drawn


def enlarge_for_words(image: UInt8Array) -> UInt8Array:
    """Return the picture as large as `draw_overlay` would make it."""
    return _enlarge(image, _factor(image.shape))


def _factor(shape: tuple[int, ...]) -> int:
    return max(1, min(-(-MIN_WIDTH // shape[1]), _MAX_HEIGHT // shape[0]))


def _enlarge(image: UInt8Array, factor: int) -> UInt8Array:
    # repeats pixels: interpolation would make up mask labels and detail
    return image if factor == 1 else image.repeat(factor, axis=0).repeat(factor, axis=1)


def write_head(image: UInt8Array, lines: Sequence[str]) -> int:
    """Write into the upper left corner; return the row below."""
    margin = max(4, image.shape[0] // 60)
    bottom = 0
    for number, line in enumerate(lines):
        scale = _text_scale(image) * (0.8 if number else 1.0)
        width, height, _ = _text_size(line, scale)
        scale *= min(1.0, (image.shape[1] - 2 * margin) / max(1, width))
        bottom += margin + height
        put_text(image, line, margin, bottom, scale)
    return bottom


def _write_label(image: UInt8Array, words: str, left: int, top: int, head_bottom: int) -> None:
    """Write above the box that begins at (left, top), or inside it where there is no room."""
    scale = _text_scale(image)
    width, height, descent = _text_size(words, scale)
    gap = line_width(image) + descent
    baseline = top - gap
    if baseline - height < head_bottom:
        baseline = max(top, head_bottom) + gap + height
    put_text(image, words, max(0, min(left, image.shape[1] - width - 2)), baseline, scale)


def _text_scale(image: UInt8Array) -> float:
    shorter: int = min(image.shape[:2])
    return max(0.4, shorter / 1200)


def _text_size(words: str, scale: float) -> tuple[int, int, int]:
    (width, height), descent = cv2.getTextSize(words, FONT, scale, text_thickness(scale))
    return width, height, descent


def frame_in_amber(image: UInt8Array) -> None:
    """Draw a border that says: look at the words above; in place."""
    thickness = max(2, min(image.shape[:2]) // 100)
    inset = thickness // 2
    corner = (image.shape[1] - 1 - inset, image.shape[0] - 1 - inset)
    cv2.rectangle(image, (inset, inset), corner, _WARNING_COLOUR, thickness)


def write_warning(image: UInt8Array, words: str) -> None:
    """Write across the middle of the frame on a dark bar, where nobody can overlook it."""
    (width, _), _ = cv2.getTextSize(words, FONT, 1.0, 2)
    scale = 0.7 * image.shape[1] / width
    thickness = max(1, round(2 * scale))
    (width, height), _ = cv2.getTextSize(words, FONT, scale, thickness)
    middle = image.shape[0] // 2
    image[max(0, middle - height) : middle + height] //= 4
    place = ((image.shape[1] - width) // 2, middle + height // 2)
    cv2.putText(image, words, place, FONT, scale, _WARNING_COLOUR, thickness, cv2.LINE_AA)
