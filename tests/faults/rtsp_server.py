"""A real RTSP server for one folder: `python rtsp_server.py FOLDER PORT [USER:PASSWORD]`."""

from __future__ import annotations

import asyncio
import base64
import sys

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
        await super()._handle_describe(uri, headers)


class Server(rtsp.RtspServer):  # type: ignore[misc]
    credentials = ""

    async def _handle_client(self, sock: object) -> None:
        await Session(self, sock).run()


async def main(folder: str, port: str, credentials: str = "") -> None:
    server = Server(folder, "127.0.0.1", int(port))
    server.credentials = credentials
    await server.start()
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
