"""Masks, words and grids drawn on pictures; everything is (h, w, 3) uint8 BGR."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from rwkv_edge.config import RESEARCH_USE
from rwkv_edge.preprocess import UInt8Array, foreground_labels

# Okabe and Ito's palette, readable with colour blindness and far from the red of mucosa; BGR.
CLASS_COLOURS = ((115, 158, 0), (233, 180, 86), (66, 228, 240), (178, 114, 0), (167, 121, 204))
TRUTH_COLOUR = (255, 255, 255)
FONT = cv2.FONT_HERSHEY_SIMPLEX
FOOTER = 28
"""Height in pixels of the line below a grid, which hides no picture."""


def class_colour(label: int) -> tuple[int, int, int]:
    """Return the BGR colour of a class label, 1 being the first foreground class."""
    return CLASS_COLOURS[(label - 1) % len(CLASS_COLOURS)]


def draw_mask(
    image: UInt8Array, mask: UInt8Array, alpha: float = 0.35, *, contour: bool = True
) -> UInt8Array:
    """Return a copy with each class of `mask` as translucent fill, and a contour unless unwanted.

    Args:
        image: (h, w, 3) uint8 BGR.
        mask: (h, w) uint8 class labels, 0 for background.
        alpha: opacity of the fill, 0 to 1; 0 leaves the contour alone.
    """
    drawn: UInt8Array = image.copy()
    thickness = line_width(image)
    for label in foreground_labels(mask):
        region = (mask == label).view(np.uint8)
        colour = class_colour(label)
        if alpha > 0:
            left, top, width, height = cv2.boundingRect(region)
            window = slice(top, top + height), slice(left, left + width)
            tint = np.full_like(drawn[window], colour)
            tinted = cv2.addWeighted(drawn[window], 1 - alpha, tint, alpha, 0)
            cv2.copyTo(tinted, region[window], drawn[window])
        if contour:
            draw_contour(drawn, region, colour, thickness)
    return drawn


def draw_contour(
    image: UInt8Array, region: UInt8Array, colour: tuple[int, int, int], thickness: int
) -> None:
    """Draw the outlines of a non-zero region onto `image`, in place."""
    contours, _ = cv2.findContours(region, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(image, contours, -1, colour, thickness, cv2.LINE_AA)


def line_width(image: UInt8Array) -> int:
    """Return a line width in pixels that suits the picture's size."""
    shorter: int = min(image.shape[:2])
    return max(1, round(shorter / 240))


def put_text(image: UInt8Array, text: str, left: int, baseline: int, scale: float = 0.5) -> None:
    """Write white words with a dark edge, legible on any tissue, in place."""
    text = text.encode("utf-8", "replace").decode()  # OpenCV 5 crashes on a name that is not UTF-8
    # the edge is made of shifted copies: in OpenCV 5 a thicker stroke is a wider font too
    thickness, edge = text_thickness(scale), max(1, round(scale * 1.5))
    shifts = [(x, y) for x in (-edge, 0, edge) for y in (-edge, 0, edge) if (x, y) != (0, 0)]
    for x, y in [*shifts, (0, 0)]:
        colour = (255, 255, 255) if (x, y) == (0, 0) else (0, 0, 0)
        place = (left + x, baseline + y)
        cv2.putText(image, text, place, FONT, scale, colour, thickness, cv2.LINE_AA)


def text_thickness(scale: float) -> int:
    """Return the thickness that `put_text` writes with; `cv2.getTextSize` depends on it."""
    return max(1, round(scale * 2))


def mark_research_use(image: UInt8Array) -> None:
    """Write the notice that every picture carries into the lower left corner, in place."""
    scale = max(0.4, min(image.shape[:2]) / 1000)
    (width, _), _ = cv2.getTextSize(RESEARCH_USE, FONT, scale, text_thickness(scale))
    scale *= min(1.0, 0.96 * image.shape[1] / max(1, width))
    margin = max(4, image.shape[0] // 60)
    put_text(image, RESEARCH_USE, margin, image.shape[0] - margin, scale)


def picture_grid(
    tiles: Sequence[tuple[UInt8Array, str]], columns: int, tile_size: int = 256, legend: str = ""
) -> UInt8Array:
    """Arrange captioned pictures in a grid, each fitted into a square tile on black.

    Args:
        tiles: pictures with their captions, left to right and top to bottom.
        columns: tiles in a row.
        tile_size: pixels a side.
        legend: what the colours mean, for the line below the grid.

    Returns:
        (rows * tile_size + FOOTER, columns * tile_size, 3) uint8 BGR.
    """
    rows = -(-len(tiles) // columns)
    grid = np.zeros((rows * tile_size + FOOTER, columns * tile_size, 3), np.uint8)
    for index, (picture, caption) in enumerate(tiles):
        row, column = divmod(index, columns)
        scale = tile_size / max(picture.shape[:2])
        size = [max(1, round(side * scale)) for side in picture.shape[1::-1]]
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        top = row * tile_size + (tile_size - size[1]) // 2
        left = column * tile_size + (tile_size - size[0]) // 2
        grid[top : top + size[1], left : left + size[0]] = small
        put_text(grid, caption, column * tile_size + 6, row * tile_size + 18, 0.45)
    footer = f"{legend}; {RESEARCH_USE}" if legend else RESEARCH_USE
    put_text(grid, footer, 6, rows * tile_size + 19, 0.45)
    return grid
