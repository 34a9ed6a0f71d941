"""A network camera: RTSP or HTTP, decoded by PyAV, whose waits all end by themselves.

PyAV rather than OpenCV: its time-outs interrupt every wait, its errors tell a wrong password from a
wrong path, and a change of resolution arrives as it is.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import av
import av.error

from rwkv_edge.errors import SourceError
from rwkv_edge.preprocess import size_problem
from rwkv_edge.video.address import NetworkAddress
from rwkv_edge.video.base import Frame, Source
from rwkv_edge.video.redact import redact
from rwkv_edge.video.video_file import upright

CONNECT_S = 1.5
OPEN_S = 2.5
"""Together below the five seconds in which a user wants to know."""
READ_S = 2.0
# without «nobuffer», which throws away what was probed, and with it the first key frame
_PROBE = {"analyzeduration": "500000", "probesize": "500000"}


class NetworkStream(Source):
    """The frames of a network stream, as they arrive. It ends with an error, never quietly."""

    kind = "stream"

    def __init__(self, address: NetworkAddress, transport: str = "tcp") -> None:
        """Connect, and find the video.

        Args:
            address: where.
            transport: of RTSP: tcp or udp.

        Raises:
            SourceError: which of host, port, password, path or silence it was.
        """
        super().__init__()
        self._address = address
        check_port(address)
        options = dict(_PROBE)
        began = time.monotonic()
        if address.url.lower().startswith("rtsp"):
            options["rtsp_transport"] = transport
        try:
            self._container = av.open(address.url, options=options, timeout=(OPEN_S, READ_S))
        except (av.FFmpegError, ValueError) as error:
            # its text holds the password; and when FFmpeg's time is up, what it has is «invalid»
            late = time.monotonic() - began >= 0.95 * OPEN_S
            raise self._silence() if late else self._explained(error) from None
        if not self._container.streams.video:
            self.close()
            raise SourceError(f"{address.shown}: the stream holds no video")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "SLICE"  # threads by frame would hold frames back
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.fps = float(rate) if rate and 1 <= rate <= 240 else None

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames with the moment of their arrival.

        Raises:
            SourceError: the stream fell silent, ended or broke.
        """
        clock = ArrivalClock()
        index, start = 0, None
        try:
            for packet in self._container.demux(self._stream):
                arrived = time.monotonic()
                try:
                    pictures = packet.decode()
                except av.error.InvalidDataError:
                    continue  # damaged on its way; the next key frame mends it
                for picture in pictures:
                    if not isinstance(picture, av.VideoFrame) or picture.is_corrupt:
                        continue
                    if problem := size_problem(picture.height, picture.width):
                        raise SourceError(f"{self._address.shown}: {problem}")
                    captured = clock.captured(arrived, picture.time)
                    if clock.is_stuck:  # a new connection begins at the present
                        raise SourceError(f"{self._address.shown}: the stream lags behind")
                    start = captured if start is None else start
                    image = upright(picture, self._stream.sample_aspect_ratio)
                    yield Frame(index, captured - start, image, f"{index:06d}", captured)
                    index += 1
        except av.FFmpegError as error:
            raise self._explained(error) from None
        raise SourceError(f"{self._address.shown}: the stream ended")

    def _explained(self, error: Exception) -> SourceError:
        shown = self._address.shown
        if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
            return SourceError(
                f"{shown}: user or password refused; give them in RWKV_EDGE_RTSP_USER and "
                "RWKV_EDGE_RTSP_PASSWORD"
            )
        if isinstance(error, av.error.HTTPNotFoundError):
            return SourceError(f"{shown}: the server has no such path")
        if isinstance(error, av.error.ExitError | TimeoutError):
            return self._silence()
        if isinstance(error, av.error.InvalidDataError):
            return SourceError(f"{shown}: what answers there is no video stream")
        reason = getattr(error, "strerror", None) or "the stream broke off"
        return SourceError(f"{shown}: {redact(reason, *self._address.secrets)}")

    def _silence(self) -> SourceError:
        return SourceError(
            f"{self._address.shown}: connected, but nothing came: is the camera running?"
        )

    def close(self) -> None:
        """Disconnect."""
        self._container.close()


def check_port(address: NetworkAddress) -> None:
    """Connect once: FFmpeg says «Input/output error» for a wrong name and a dead host alike.

    Raises:
        SourceError: which of the two it is, or that nothing listens on the port.
    """
    where = f"{address.shown}: host {address.host}"
    try:
        socket.create_connection((address.host, address.port), timeout=CONNECT_S).close()
    except socket.gaierror:
        raise SourceError(f"{where} is unknown: is its name right?") from None
    except ConnectionRefusedError:
        raise SourceError(f"{where}: nothing listens on port {address.port}") from None
    except TimeoutError:
        raise SourceError(f"{where} does not answer on port {address.port}") from None
    except OSError as error:
        raise SourceError(f"{where}: {error.strerror or 'cannot be reached'}") from None


class ArrivalClock:
    """Tells when a frame was captured from when it came and its own time stamp.

    After a stall a server sends what it held back all at once. Those frames arrive now and are old;
    their time stamps, which ran on, give that away.
    """

    _JITTER_S = 0.1  # below this, lateness is the network's usual unrest
    _JUMP_S = 10.0  # beyond this, the time stamps began anew
    _STUCK_S, _PATIENCE_S = 0.5, 1.5  # so late for so long: what was held back is never caught up
    _DRIFT = 1e-3  # how fast the two clocks may part, far above what quartz does

    def __init__(self) -> None:
        self._offset: float | None = None
        self._last = 0.0
        self._late_since: float | None = None
        self.is_stuck = False
        """Whether the frames have been late, all of them, for a while."""

    def captured(self, arrived: float, stamp: float | None) -> float:
        """Return the moment of capture, in seconds of time.monotonic().

        Args:
            arrived: when the packet came, by time.monotonic().
            stamp: the frame's time stamp in seconds, from any origin; None where it has none.
        """
        if stamp is None:
            return arrived
        offset = arrived - stamp
        if self._offset is None or not -self._JUMP_S < offset - self._offset < self._JUMP_S:
            self._offset = offset
            self._late_since = None
        else:
            drifted = self._offset + self._DRIFT * (arrived - self._last)
            self._offset = min(offset, drifted)
        self._last = arrived
        late = offset - self._offset
        if late < self._STUCK_S:
            self._late_since = None
        elif self._late_since is None:
            self._late_since = arrived
        since = arrived if self._late_since is None else self._late_since
        self.is_stuck = arrived - since > self._PATIENCE_S
        return arrived - late if late > self._JITTER_S else arrived
