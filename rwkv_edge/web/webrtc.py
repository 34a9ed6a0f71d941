"""The picture by WebRTC: an encoder a viewer, the newest frame only, and no server but this one.

No STUN or TURN server is asked for anything: the addresses offered are this machine's own. The
browser's are not looked at, it has to knock first, so that an offer cannot make the program send
packets to whomever it names. Needs the extra 'webrtc'.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from fractions import Fraction

import av
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)

from rwkv_edge.preprocess import UInt8Array
from rwkv_edge.video.writer import with_even_sides
from rwkv_edge.web.hub import CLOCK, Broadcast

_LOOK_S = 1.0
_CLOSE_S = 2.0
_CANDIDATES = re.compile(r"^a=(candidate:.*|end-of-candidates)\r?\n", re.MULTILINE)


class Peers:
    """Hands out connections, so many at once."""

    def __init__(self, broadcast: Broadcast, most: int) -> None:
        self.broadcast = broadcast
        self.free = most

    def new(self) -> Peer:
        """Return what will answer one viewer's offers."""
        return Peer(self)


class Peer:
    """One viewer's connection. Lives in the server's event loop."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._connection: RTCPeerConnection | None = None

    async def answer(self, offer: str) -> str:
        """Connect, in place of an earlier connection.

        Returns:
            The answer; empty if there are too many already or the offer is not for one video.
        """
        await self.close()
        if not self._peers.free or re.findall(r"^m=(\w+)", offer, re.MULTILINE) != ["video"]:
            return ""
        self._peers.free -= 1
        connection = self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))

        @connection.on("connectionstatechange")
        async def look() -> None:
            if connection.connectionState in ("failed", "closed"):
                await self._forget(connection)

        try:
            await connection.setRemoteDescription(
                RTCSessionDescription(_CANDIDATES.sub("", offer), "offer")
            )
            connection.addTrack(Picture(self._peers.broadcast))
            await connection.setLocalDescription(await connection.createAnswer())
        except Exception:  # aiortc's parser, which may stumble in any way over a stranger's words
            await self.close()
            return ""
        return str(connection.localDescription.sdp)

    async def close(self) -> None:
        """End the connection, if there is one."""
        if self._connection is not None:
            await self._forget(self._connection)

    async def _forget(self, connection: RTCPeerConnection) -> None:
        if self._connection is connection:
            self._connection = None
            self._peers.free += 1
            with suppress(asyncio.TimeoutError, TimeoutError):  # two before Python 3.11
                await asyncio.wait_for(connection.close(), _CLOSE_S)


class Picture(MediaStreamTrack):
    """The newest frame whenever the encoder is done with the one before."""

    kind = "video"

    def __init__(self, broadcast: Broadcast) -> None:
        super().__init__()
        self._broadcast = broadcast
        self._number = 0

    async def recv(self) -> av.VideoFrame:
        """Wait for a frame newer than the last."""
        while True:
            moment = await self._broadcast.newer(self._number, _LOOK_S)
            if moment is not None and moment.image is not None:
                break
        self._number = moment.number
        frame = await asyncio.to_thread(_video_frame, moment.image)
        frame.pts, frame.time_base = moment.stamp, Fraction(1, CLOCK)
        return frame


def _video_frame(image: UInt8Array) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(with_even_sides(image), format="bgr24")
    return frame.reformat(format="yuv420p", threads=1)
