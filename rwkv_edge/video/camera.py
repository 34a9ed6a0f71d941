"""A camera as a source."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import cv2
import numpy as np

from rwkv_edge.errors import SourceError
from rwkv_edge.video.base import Frame, Source


class Camera(Source):
    """A camera by its index, through OpenCV, which knows every platform's capture interface."""

    kind = "camera"

    def __init__(self, index: int, vid_stride: int = 1) -> None:
        """Open the camera.

        Raises:
            SourceError: there is none of this index, or it is in use.
        """
        super().__init__()
        # OpenCV complains by itself, and at length, about an index that does not exist
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            self._capture = cv2.VideoCapture(index)
        finally:
            cv2.utils.logging.setLogLevel(level)
        if not self._capture.isOpened():
            raise SourceError(
                f"camera {index} cannot be opened: is it connected, free, and may you read it?"
            )
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the present, not a queue of the past
        self._index = index
        self._stride = vid_stride
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps = rate / vid_stride if rate > 0 else None

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames for as long as there are any.

        Raises:
            SourceError: the camera stopped delivering.
        """
        start = None
        for index in itertools.count():
            good = self._capture.grab()
            now = time.monotonic()
            if good and index % self._stride:
                continue
            image = self._capture.retrieve()[1] if good else None
            if image is None:
                raise SourceError(f"camera {self._index} stopped delivering frames")
            start = now if start is None else start
            yield Frame(index, now - start, image.astype(np.uint8, copy=False), f"{index:06d}")

    def close(self) -> None:
        """Release the camera."""
        self._capture.release()
