"""The live screen published to an RTSP server, which hands it on to whoever looks there."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import av

from rwkv_edge.errors import OutputError, SourceError, UsageError
from rwkv_edge.preprocess import UInt8Array
from rwkv_edge.video.address import NetworkAddress, parse_network
from rwkv_edge.video.back_off import BackOff
from rwkv_edge.video.live import LiveFrame
from rwkv_edge.video.network_source import check_port
from rwkv_edge.video.redact import redact
from rwkv_edge.video.writer import VideoWriter

_ANSWER_S = 1.5
_BACK_OFF_S, _BACK_OFF_CAP_S = 0.5, 10.0
_STEADY_S = 5.0  # a connection that held this long counts as good, and the back-off begins anew


def parse_output(text: str, credentials: Path | None = None) -> NetworkAddress:
    """Read where to publish.

    The source's credentials are never used: they are another server's.

    Raises:
        UsageError: no rtsp:// address, or a file of credentials that cannot be read.
    """
    if not text.lower().startswith("rtsp://"):
        raise UsageError(f"--output-rtsp {redact(text)}: give rtsp://HOST:PORT/PATH")
    return parse_network(text, credentials, {}, option="--output-rtsp")


class RtspOutput:
    """A live sink that publishes, and connects again when it is cut off.

    It waits for the server, so put it behind an `Outlet`.
    """

    def __init__(self, address: NetworkAddress) -> None:
        """Set up; the connection comes with the first picture."""
        self.notice = ""
        """Why nothing is published at the moment; empty while all is well."""
        self._address = address
        self._writer: _RtspWriter | None = None
        self._size = (0, 0)
        self._began = 0.0
        self._next_try = 0.0
        self._back_off = BackOff(_BACK_OFF_S, _BACK_OFF_CAP_S)

    def write(self, frame: LiveFrame) -> None:
        """Publish a picture, or see whether it is time to connect again. Never fails."""
        now = time.monotonic()
        size = (frame.image.shape[0], frame.image.shape[1])
        if self._writer is not None and size != self._size:
            self.close()  # what was announced cannot change
        if self._writer is None:
            if now < self._next_try:
                return
            self._writer, self._size, self._began = _RtspWriter(self._address), size, now
        try:
            self._writer.write(frame.image, now - self._began)
            self.notice = ""
        except OutputError as error:
            self.notice = f"RTSP OUTPUT LOST: {error}"
            if time.monotonic() - self._began > _STEADY_S:
                self._back_off.reset()
            self._next_try = time.monotonic() + self._back_off.next()
            self.close()

    def close(self) -> None:
        """Disconnect."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(OutputError):  # it was gone already
                writer.close()


class _RtspWriter(VideoWriter):
    """Writes to a server instead of a file."""

    def __init__(self, address: NetworkAddress) -> None:
        super().__init__(Path(address.shown))
        self._address = address

    def write(self, image: UInt8Array, time_s: float) -> None:
        try:
            super().write(image, time_s)
        except OutputError as error:
            raise OutputError(self._explained(error.__cause__)) from None  # its text may tell more

    def _open_container(self) -> av.container.OutputContainer:
        options = {"rtsp_transport": "tcp", "timeout": str(round(_ANSWER_S * 1e6))}
        return av.open(self._address.url, "w", format="rtsp", options=options)

    def _explained(self, error: BaseException | None) -> str:
        shown = self._address.shown
        if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
            return f"{shown}: user or password refused; give them by --output-credentials"
        if isinstance(error, av.error.InvalidDataError | TimeoutError):
            return f"{shown}: the server does not answer, or does not let anybody publish"
        try:
            check_port(self._address)
        except SourceError as why:
            return str(why)
        reason = getattr(error, "strerror", None) or "the connection broke off"
        return f"{shown}: {redact(reason, *self._address.secrets)}"
