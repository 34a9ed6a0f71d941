"""H.264 in MP4, playable in every browser, whole or cut short.

While frames come in, the file consists of fragments of under a second, each complete in itself, so
that even SIGKILL or a power cut leaves all but the last of them. Closing turns it into a plain MP4
with an index, in which players can seek.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.frame import PictureType

from rwkv_edge.errors import OutputError
from rwkv_edge.preprocess import Letterbox, UInt8Array

ENCODERS: dict[str, dict[str, str]] = {
    # zerolatency: no look-ahead and no B-frames, so nothing but the last second is ever in flight
    "libx264": {"preset": "veryfast", "crf": "20", "tune": "zerolatency"},
    "libopenh264": {"b": "8M"},
}
_CLOCK = 90_000  # ticks a second, as in MPEG
_FRAGMENT_S = 0.8  # with the frame that ends it, a second
_NEVER = 100_000  # frames: fragments, and with them key frames, go by time, not by their number
_BT709 = 1  # H.264's number for BT.709 as matrix, primaries and transfer function
_LIMITED_RANGE = 1


class VideoWriter:
    """Writes frames at the times they were taken: a variable frame rate stays variable.

    The first frame sets the size. One of another size is scaled to fit and centred on black, as the
    video's own viewers would do with a change of resolution; H.264 needs even sides, so an odd one
    is padded by repeating the last row or column.
    """

    def __init__(self, path: Path, fps: float | None = None) -> None:
        """Name the file; it is made with the first frame.

        Args:
            path: ends in .mp4.
            fps: expected frames a second, for the header and for how long the last one is shown.

        Raises:
            OutputError: this PyAV cannot encode H.264.
        """
        self.path = path
        self._fps = min(max(fps or 25.0, 1.0), 240.0)
        self._encoder = next((name for name in ENCODERS if name in av.codecs_available), "")
        if not self._encoder:
            raise OutputError("this PyAV has no H.264 encoder: reinstall it with pip install av")
        self._container: av.container.OutputContainer | None = None
        self._size = (0, 0)
        self._ticks, self._key = -1, 0

    def write(self, image: UInt8Array, time_s: float) -> None:
        """Append a frame.

        Args:
            image: (h, w, 3) uint8 BGR.
            time_s: when to show it, in seconds; increasing.

        Raises:
            OutputError: the disk is full, or the file cannot be made.
        """
        size = (image.shape[0], image.shape[1])
        try:
            if self._container is None:
                self._open(size)
            if size != self._size:
                image = Letterbox.fit(size, self._size).apply(image)
            self._encode(image, time_s)
        except (av.FFmpegError, OSError) as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}") from error

    def _open(self, size: tuple[int, int]) -> None:
        self._size = size
        self._container = self._open_container()
        stream = self._container.add_stream(
            self._encoder, rate=Fraction(self._fps).limit_denominator(1001)
        )
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = size[0] + size[0] % 2, size[1] + size[1] % 2
        stream.pix_fmt = "yuv420p"
        stream.options = dict(ENCODERS[self._encoder])
        context = stream.codec_context
        context.time_base = Fraction(1, _CLOCK)
        context.gop_size = _NEVER
        # untagged, a player would guess the colours by the size of the picture
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED_RANGE
        self._stream = stream

    def _open_container(self) -> av.container.OutputContainer:
        # absolute, because FFmpeg takes what stands before a colon for a protocol. Without
        # flush_packets half a fragment would wait in memory and the half on disk be unreadable.
        return av.open(
            str(self.path.absolute()),
            "w",
            format="mp4",
            options={"movflags": "hybrid_fragmented", "flush_packets": "1"},
        )

    def _encode(self, image: UInt8Array, time_s: float) -> None:
        assert self._container is not None
        frame = av.VideoFrame.from_ndarray(with_even_sides(image), format="bgr24").reformat(
            format="yuv420p",
            dst_colorspace=_BT709,
            dst_color_range=_LIMITED_RANGE,
            threads=1,  # see video_file.py
        )
        self._ticks = max(self._ticks + 1, round(time_s * _CLOCK))
        frame.pts, frame.time_base = self._ticks, Fraction(1, _CLOCK)
        frame.duration = round(_CLOCK / self._fps)
        if self._ticks - self._key >= _FRAGMENT_S * _CLOCK:
            frame.pict_type, self._key = PictureType.I, self._ticks
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file; without a frame there is none.

        Raises:
            OutputError: the disk is full.
        """
        container, self._container = self._container, None
        if container is None:
            return
        try:
            try:
                container.mux(self._stream.encode(None))
            finally:
                container.close()
        except (av.FFmpegError, OSError) as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}") from error


def with_even_sides(image: UInt8Array) -> UInt8Array:
    """Repeat the last row or column where there is an odd number of them: video needs pairs."""
    odd = (image.shape[0] % 2, image.shape[1] % 2)
    if not any(odd):
        return image
    return cv2.copyMakeBorder(image, 0, odd[0], 0, odd[1], cv2.BORDER_REPLICATE).astype(
        np.uint8, copy=False
    )
