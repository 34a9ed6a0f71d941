"""A camera as a source: by index, by device file, or through a GStreamer pipeline."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import cv2
import numpy as np

from rwkv_edge.errors import SourceError
from rwkv_edge.video.base import Frame, Source
from rwkv_edge.video.redact import redact

# Jetson's own camera path: the picture stays in hardware until it is BGR, and only the newest waits
_CSI = (
    "nvarguscamerasrc sensor-id={sensor} ! video/x-raw(memory:NVMM) ! nvvidconv ! "
    "video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR ! "
    "appsink drop=true max-buffers=1 sync=false"
)


class Camera(Source):
    """A camera through OpenCV, which knows every platform's capture interface."""

    kind = "camera"

    def __init__(self, index: int | str, vid_stride: int = 1, backend: int = cv2.CAP_ANY) -> None:
        """Open the camera.

        Args:
            index: its number, its device file, or with `cv2.CAP_GSTREAMER` a pipeline.
            vid_stride: deliver the first of every so many frames.
            backend: OpenCV's capture interface.

        Raises:
            SourceError: there is none of this name, or it is in use.
        """
        super().__init__()
        # OpenCV complains by itself, and at length, about an index that does not exist
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            self._capture = cv2.VideoCapture(index, backend)
        finally:
            cv2.utils.logging.setLogLevel(level)
        self._name = redact(str(index))  # a pipeline may hold an address
        if not self._capture.isOpened():
            raise SourceError(
                f"camera {self._name} cannot be opened: is it connected, free, and may you read it?"
            )
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the present, not a queue of the past
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
                raise SourceError(f"camera {self._name} stopped delivering frames")
            start = now if start is None else start
            picture = image.astype(np.uint8, copy=False)
            yield Frame(index, now - start, picture, f"{index:06d}", now)

    def close(self) -> None:
        """Release the camera."""
        self._capture.release()


def open_gstreamer(pipeline: str) -> Camera:
    """Open a GStreamer pipeline that ends in `appsink` and delivers BGR.

    Raises:
        SourceError: this OpenCV was built without GStreamer, or the pipeline does not start.
    """
    if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        raise SourceError(
            "this OpenCV was built without GStreamer, which csi:// and pipelines need: use "
            "JetPack's own OpenCV (pip uninstall opencv-python, and make the environment with "
            "--system-site-packages), or give an rtsp:// or v4l2:// address"
        )
    return Camera(pipeline, backend=cv2.CAP_GSTREAMER)


def csi_pipeline(sensor: int) -> str:
    """Return the pipeline of a camera on Jetson's CSI connector."""
    return _CSI.format(sensor=sensor)
