"""Clips to read: real files, written by PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

Image = np.ndarray


def numbered(count: int, size: tuple[int, int] = (48, 64)) -> list[Image]:
    """Frames whose grey level tells their number: 10, 20, 30 and so on."""
    return [np.full((*size, 3), 10 * (index + 1), np.uint8) for index in range(count)]


def number_of(image: Image) -> int:
    return round(float(image.mean()) / 10) - 1


def write_clip(
    path: Path,
    images: Sequence[Image],
    times: Sequence[float] | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    movflags: str = "",
    aspect: Fraction = Fraction(1),
) -> Path:
    """Encode BGR images at `times` in seconds, ten a second by default; `aspect` is a pixel's."""
    options = {"movflags": movflags} if movflags else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.gop_size = 5
        stream.codec_context.sample_aspect_ratio = aspect
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame = frame.reformat(format=pix_fmt, threads=1)  # FFmpeg 8 races with several
            frame.time_base = Fraction(1, 1000)
            frame.pts = round(1000 * (times[index] if times else index / 10))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read_clip(path: Path) -> list[tuple[float, Image]]:
    """Return times in seconds and BGR images, as PyAV alone decodes them."""
    with av.open(str(path)) as container:
        return [
            (frame.time, frame.to_ndarray(format="bgr24")) for frame in container.decode(video=0)
        ]
