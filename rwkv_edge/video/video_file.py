"""Video files, decoded by PyAV.

PyAV rather than OpenCV: it gives each frame's own time stamp, so that a recording of variable frame
rate keeps its timing; it tells a damaged file from a finished one; and it decodes alike on every
machine, where a device's own OpenCV may come with GStreamer and without FFmpeg.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from rwkv_edge.errors import SourceError
from rwkv_edge.preprocess import UInt8Array, size_problem
from rwkv_edge.video.base import Frame, Source

_TURNS = {
    90: cv2.ROTATE_90_COUNTERCLOCKWISE,
    180: cv2.ROTATE_180,
    -180: cv2.ROTATE_180,
    -90: cv2.ROTATE_90_CLOCKWISE,
}
_MOST_ASPECT = 4  # of a pixel's sides; more is a damaged header
_MISSING_S = 1.0  # a file that ends this much before its declared duration counts as truncated


class VideoFile(Source):
    """The frames of a video file, at the time stamps they were recorded with."""

    kind = "video"

    def __init__(self, path: Path, vid_stride: int = 1) -> None:
        """Open the file and decode its first frame, so that a bad file is refused before any work.

        Raises:
            SourceError: empty, not a video, or without a frame that can be decoded.
        """
        super().__init__()
        self.files = (path,)
        self._path = path
        self._stride = vid_stride
        self._is_damaged, self._broke_off = False, ""
        self._container = _open(path)
        try:
            self._read_header()
            self._decoded = self._decode()
            self._first = next(self._decoded, None)
            self._check_first()
        except BaseException:
            self.close()
            raise

    def _read_header(self) -> None:
        if not self._container.streams.video:
            raise SourceError(f"{self._path}: the file holds no video")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self._aspect = self._stream.sample_aspect_ratio
        rate = self._stream.average_rate or self._stream.guessed_rate
        self._rate = float(rate) if rate else 25.0  # only to space frames without time stamps
        self.fps = self._rate / self._stride
        if self._stream.duration is not None and self._stream.time_base is not None:
            self._duration = float(self._stream.duration * self._stream.time_base)
        else:
            self._duration = (self._container.duration or 0) / 1e6
        self._frames = self._stream.frames or round(self._duration * self._rate)
        self.count = -(-self._frames // self._stride) if self._frames else None

    def _check_first(self) -> None:
        if self._first is None:
            raise SourceError(f"{self._path}: no frame of this video can be decoded")
        if problem := size_problem(self._first.height, self._first.width):
            raise SourceError(f"{self._path}: {problem}")

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Yield what can be decoded: damage costs its own frames, not the rest."""
        try:
            for packet in self._container.demux(self._stream):
                try:
                    frames = packet.decode()
                except av.error.InvalidDataError:
                    self._is_damaged = True
                    continue
                for frame in frames:
                    if frame.is_corrupt:
                        self._is_damaged = True
                    elif isinstance(frame, av.VideoFrame):
                        yield frame
        except av.FFmpegError as error:
            self._broke_off = f"reading ended early: {error.strerror}"

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames; what could not be read is counted in `problems`."""
        assert self._first is not None
        origin = self._first.time
        index, time_s = 0, 0.0
        for index, picture in enumerate(itertools.chain([self._first], self._decoded)):
            if picture.time is None or origin is None:
                time_s = index / self._rate
            else:
                time_s = picture.time - origin
            if index % self._stride == 0:
                yield Frame(index, time_s, upright(picture, self._aspect), f"{index:06d}")
        reasons = [self._broke_off] if self._broke_off else []
        if not reasons and self._duration - time_s - 1 / self._rate > _MISSING_S:
            ended = f"the video ended at {time_s:.1f} s of {self._duration:.1f} s"
            reasons.append(f"{ended}; the file may be truncated")
        if self._is_damaged:
            reasons.append("damaged ones were left out")
        if reasons:
            expected = f"{'' if self._stream.frames else 'about '}{self._frames}"
            self.problems.append(
                f"{self._path}: {index + 1} of {expected} frames could be read; "
                + "; ".join(reasons)
            )

    def close(self) -> None:
        """Close the file."""
        self._container.close()


def _open(path: Path) -> av.container.InputContainer:
    if path.is_file() and path.stat().st_size == 0:
        raise SourceError(f"{path}: the file is empty (0 bytes)")
    try:
        # absolute, because FFmpeg takes what stands before a colon for a protocol
        container = av.open(str(path.absolute()))
    except av.FFmpegError as error:
        raise SourceError(f"{path}: not a video that can be read ({error.strerror})") from error
    if container.format.name == "tty":  # FFmpeg would film a text file
        container.close()
        raise SourceError(f"{path}: not a video but a text file")
    return container


def upright(picture: av.VideoFrame, pixel_aspect: Fraction | None = None) -> UInt8Array:
    """Return (h, w, 3) uint8 BGR, turned as the file's rotation mark asks, its pixels square.

    Args:
        picture: as decoded.
        pixel_aspect: width of a pixel divided by its height (PAL and NTSC recordings: not 1).
    """
    # one thread: with several, FFmpeg 8's slices write over each other's edges now and then (seen
    # with 10 bits), and one takes under 2 ms for full HD
    image = picture.to_ndarray(format="bgr24", threads=1).astype(np.uint8, copy=False)
    if pixel_aspect and pixel_aspect != 1 and 1 / _MOST_ASPECT <= pixel_aspect <= _MOST_ASPECT:
        size = (max(1, round(picture.width * pixel_aspect)), picture.height)
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
    turn = _TURNS.get(picture.rotation)
    return image if turn is None else cv2.rotate(image, turn).astype(np.uint8, copy=False)
