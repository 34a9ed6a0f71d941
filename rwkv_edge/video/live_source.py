"""From what a user names to something that can be connected to, again and again."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from urllib.parse import unquote

import cv2

from rwkv_edge.errors import SourceError, UsageError
from rwkv_edge.video.address import NETWORK_SCHEMES, parse_network
from rwkv_edge.video.base import Frame, Source
from rwkv_edge.video.camera import Camera, csi_pipeline, open_gstreamer
from rwkv_edge.video.network_source import NetworkStream
from rwkv_edge.video.redact import redact
from rwkv_edge.video.source import open_source

DEFAULT_RATE = 25.0
"""Frames a second of image sequences."""
TRANSPORTS = ("tcp", "udp")


@dataclass(frozen=True)
class LiveInput:
    """A source by name; `connect` opens it anew each time."""

    name: str
    """For messages; without credentials."""
    connect: Callable[[threading.Event], Source]
    """Takes the event that ends every wait."""
    returns: bool
    """Whether it is worth connecting again: a camera comes back, a file has ended."""


def parse_live(
    text: str,
    *,
    credentials: Path | None = None,
    transport: str = "tcp",
    rate: float = DEFAULT_RATE,
) -> LiveInput:
    """Read what a user named; nothing is opened yet.

    Args:
        text: a camera's index, v4l2:///dev/video0, csi://0, a GStreamer pipeline (with ' ! '),
            rtsp://, http://, file:// or a path: a video, an image, a folder or a pattern of images.
        credentials: see `parse_network`.
        transport: of RTSP: tcp or udp.
        rate: frames a second of image sequences.

    Raises:
        UsageError: an unknown scheme or transport, or an address that makes no sense.
    """
    if transport not in TRANSPORTS:
        raise UsageError(f"--rtsp-transport {transport}: choose one of {', '.join(TRANSPORTS)}")
    if " ! " in text:
        return LiveInput(redact(text), lambda _: open_gstreamer(text), returns=True)
    if text.isdecimal():
        return LiveInput(f"camera {text}", lambda _: Camera(int(text)), returns=True)
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", text, re.DOTALL)
    if match is None:
        return LiveInput(
            redact(text), lambda stop: Paced(open_source(text), stop, rate), returns=False
        )
    scheme, rest = match[1].lower(), match[2]
    if scheme in NETWORK_SCHEMES:
        address = parse_network(text, credentials)
        return LiveInput(address.shown, lambda _: NetworkStream(address, transport), returns=True)
    if scheme == "file":
        path = str(Path(unquote(rest)))
        if path.isdecimal():
            path = f"./{path}"  # else it were a camera
        return LiveInput(path, lambda stop: Paced(open_source(path), stop, rate), returns=False)
    if scheme == "v4l2":
        if not rest.startswith("/dev/"):
            raise UsageError(f"--source {text}: name a device, for example v4l2:///dev/video0")
        return LiveInput(text, lambda _: Camera(rest, backend=cv2.CAP_V4L2), returns=True)
    if scheme == "csi":
        if not rest.isdecimal():
            raise UsageError(f"--source {text}: name a sensor, for example csi://0")
        pipeline = csi_pipeline(int(rest))
        return LiveInput(text, lambda _: open_gstreamer(pipeline), returns=True)
    known = ", ".join(f"{name}://" for name in (*NETWORK_SCHEMES, "file", "v4l2", "csi"))
    raise UsageError(f"--source {redact(text)}: {scheme}:// is none of {known}")


class Paced(Source):
    """A file played at its own rate, as if it were happening now."""

    def __init__(self, source: Source, stop: threading.Event, rate: float = DEFAULT_RATE) -> None:
        """Take over a source.

        Args:
            source: a file's; closed with this one.
            stop: ends a wait.
            rate: frames a second where the source has no times.

        Raises:
            SourceError: the source is a camera, which has a pace of its own.
        """
        super().__init__()
        if source.kind not in ("images", "video"):
            source.close()
            raise SourceError("only files can be played at their own rate")
        self._source, self._stop = source, stop
        self._rate = rate
        self.files, self.problems = source.files, source.problems
        self.fps = source.fps or rate
        self._still = source.kind == "images"

    def __iter__(self) -> Iterator[Frame]:
        """Yield each frame when its time has come."""
        start = monotonic()
        for number, frame in enumerate(self._source):
            due = number / self._rate if self._still else frame.time_s
            if self._stop.wait(max(0.0, start + due - monotonic())):
                return
            yield Frame(frame.index, due, frame.image, frame.name, monotonic())

    def close(self) -> None:
        """Close the file."""
        self._source.close()
