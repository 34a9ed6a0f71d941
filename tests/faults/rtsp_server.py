"""A real RTSP server for one folder: `python rtsp_server.py FOLDER PORT [USER:PASSWORD] [LOG]`.

LOG gets the monotonic time at which the last packet of each frame was sent, a line each.
"""

from __future__ import annotations

import asyncio
import base64
import os
import sys
import time
from typing import IO, Any

import aio_rtsp_toolkit.server as rtsp
from aio_rtsp_toolkit.server_session import RtspServerSession


class Session(RtspServerSession):  # type: ignore[misc]
    """Asks for user and password, as cameras do."""

    async def _handle_describe(self, uri: str, headers: dict[str, str]) -> None:
        wanted = self.server.credentials
        given = headers.get("authorization", "").removeprefix("Basic ")
        if wanted and given != base64.b64encode(wanted.encode()).decode():
            challenge = {"WWW-Authenticate": 'Basic realm="camera"'}
            await self._send_response(headers, 401, "Unauthorized", challenge)
            return
        if self.server.log is not None:
            print("connected", file=self.server.log)
        await super()._handle_describe(uri, headers)

    async def _send_rtp_packet(
        self, state: Any, payload: bytes, timestamp: int, marker: int
    ) -> None:
        await super()._send_rtp_packet(state, payload, timestamp, marker)
        if marker and self.server.log is not None:
            print(time.monotonic(), file=self.server.log)


class Server(rtsp.RtspServer):  # type: ignore[misc]
    credentials = ""
    log: IO[str] | None = None

    async def _handle_client(self, sock: object) -> None:
        await Session(self, sock).run()


async def main(folder: str, port: str, credentials: str = "", log: str = "") -> None:
    server = Server(folder, "127.0.0.1", int(port))
    server.credentials = credentials
    server.log = open(log, "w", buffering=1) if log else None  # noqa: SIM115
    await server.start()
    print("ready", flush=True)
    # it reports each request: into pipes that nobody reads, it would be stuck after some fifty
    for stream in (sys.stdout, sys.stderr):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
