"""What the page and its viewers may ask for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import fields
from importlib.resources import files
from pathlib import PurePath
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from rwkv_edge.errors import UsageError
from rwkv_edge.video.live import Controls, Signal, View
from rwkv_edge.web.hub import Broadcast, Viewer, WebSink, encode_jpeg
from rwkv_edge.web.metrics import CONTENT_TYPE
from rwkv_edge.web.options import WebOptions, is_loopback
from rwkv_edge.web.security import MAX_BODY

if TYPE_CHECKING:
    from rwkv_edge.web.webrtc import Peer, Peers

_HEARTBEAT_S = 1.0
_PATIENCE_S = 15.0
"""A viewer that takes no picture for so long is let go."""
_SNAPSHOT_QUALITY = 95
_BOUNDARY = b"frame"
_PAGE = "index.html"
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class Page:
    """The routes. Each request gets here only past the `Guard`."""

    def __init__(self, sink: WebSink, controls: Controls, options: WebOptions) -> None:
        self._sink = sink
        self._controls = controls
        self._options = options
        self._broadcast: Broadcast | None = None
        self._peers: Peers | None = None
        get = ["GET"]
        self.app = Starlette(
            routes=[
                *_static_routes(),
                WebSocketRoute("/live", self._live),
                Route("/stream.mjpg", self._mjpeg, methods=get),
                Route("/snapshot.jpg", self._snapshot, methods=get),
                Route("/status", self._status, methods=get),
                Route("/events", self._events, methods=get),
                Route("/controls", self._change, methods=["POST"]),
                Route("/metrics", self._metrics, methods=get),
                Route("/healthz", self._health, methods=get),
            ],
            lifespan=self._lifespan,
        )
        self.app.router.redirect_slashes = False

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self._broadcast = Broadcast(self._sink, self._controls, self._options.max_viewers)
        self._peers = _peers(self._broadcast, self._options)
        self._broadcast.webrtc = self._peers is not None
        encoder = asyncio.create_task(self._broadcast.run())
        yield
        encoder.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await encoder

    @property
    def broadcast(self) -> Broadcast:
        """The viewers' side; there once the server has started."""
        assert self._broadcast is not None, "requests come after the start"
        return self._broadcast

    async def _live(self, socket_: WebSocket) -> None:
        """Send the newest moment, wait until the viewer says that it is shown, and so on.

        So at most one picture is under way, and what a slow network delivers is never old. A viewer
        that says "state" instead of "shown" gets the next state without the picture; one that sends
        an offer of WebRTC gets the answer, and its connection ends with this one.
        """
        with self.broadcast.watching() as viewer:
            if viewer is None:
                await socket_.send_denial_response(PlainTextResponse("too many viewers\n", 429))
                return
            await socket_.accept()
            peer = self._peers.new() if self._peers else None
            number, asked = 0, time.monotonic()
            try:
                while True:
                    moment = await self.broadcast.newer(number, _HEARTBEAT_S)
                    number = moment.number if moment else number
                    words = (
                        moment.message(asked, with_picture=viewer.wants_jpeg)
                        if moment
                        else self.broadcast.heartbeat(asked)
                    )
                    exchange = self._exchange(socket_, words, viewer, peer)
                    await asyncio.wait_for(exchange, _PATIENCE_S)
                    asked = time.monotonic()
            except (WebSocketDisconnect, asyncio.TimeoutError, TimeoutError):
                pass  # gone, or asleep
            finally:
                if peer is not None:
                    await peer.close()

    async def _exchange(
        self, socket_: WebSocket, words: bytes, viewer: Viewer, peer: Peer | None
    ) -> None:
        await socket_.send_bytes(words)
        while True:
            message = await socket_.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect
            said = message.get("text") or ""
            if not said.startswith("v=0"):  # as every session description does
                viewer.wants_jpeg = said != "state"
                return
            await socket_.send_text(await peer.answer(said) if peer else "")

    async def _mjpeg(self, request: Request) -> Response:
        return _Mjpeg(self.broadcast)

    async def _snapshot(self, request: Request) -> Response:
        _, frame = self._sink.newest()
        if frame is None or self._sink.signal is not Signal.LIVE:
            return PlainTextResponse("there is no live picture to keep\n", 409)
        jpeg = await asyncio.to_thread(encode_jpeg, frame.image, _SNAPSHOT_QUALITY)
        name = f"rwkv-edge-{secrets.token_hex(4)}.jpg"  # says nothing about whom and when
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(jpeg, media_type="image/jpeg", headers=headers)

    async def _status(self, request: Request) -> Response:
        return JSONResponse(self.broadcast.status(*self._sink.newest()))

    async def _events(self, request: Request) -> Response:
        after = request.query_params.get("after", "0")
        if not (after.isascii() and after.isdecimal() and len(after) < 16):
            return PlainTextResponse("after: the number of the last event you have\n", 400)
        return JSONResponse([event.as_dict() for event in self._sink.events(int(after))])

    async def _change(self, request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            return PlainTextResponse("send application/json\n", 415)
        body = b""
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    return PlainTextResponse(f"at most {MAX_BODY} bytes\n", 413)
        except ClientDisconnect:
            return PlainTextResponse("the body broke off\n", 400)
        names = [field.name for field in fields(View)]
        try:
            # floats alone: a whole number of a thousand digits is no trouble to them
            changes = json.loads(body, parse_int=float)
            if not isinstance(changes, dict) or not set(changes) <= set(names):
                raise UsageError(f"send an object; there are {', '.join(names)}")
            if changes.get("recording") and not self._sink.can_record:
                raise UsageError("nothing to record into: start the program with --record FOLDER")
            self._controls.update(**changes)
        except UsageError as error:
            return PlainTextResponse(f"{error}\n", 400)
        except (ValueError, RecursionError):
            return PlainTextResponse("this is no JSON\n", 400)
        return JSONResponse(self.broadcast.status(*self._sink.newest())["view"])

    async def _metrics(self, request: Request) -> Response:
        return Response(self._sink.metrics_text(self.broadcast.viewers), media_type=CONTENT_TYPE)

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok", "signal": self._sink.signal.value})


class _Mjpeg(Response):
    """Pictures one after the other, for viewers without WebSockets."""

    def __init__(self, broadcast: Broadcast) -> None:
        super().__init__()
        self._broadcast = broadcast

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._broadcast.watching() as viewer:
            if viewer is None:
                await PlainTextResponse("too many viewers\n", 429)(scope, receive, send)
                return
            kind = b"multipart/x-mixed-replace; boundary=" + _BOUNDARY
            start = {"type": "http.response.start", "status": 200}
            await send({**start, "headers": [(b"content-type", kind)]})
            gone = asyncio.create_task(_until_gone(receive))
            number = 0
            done = {"type": "http.response.body", "body": b""}
            with contextlib.suppress(OSError, asyncio.TimeoutError, TimeoutError):
                while not gone.done() and not self._broadcast.closing:
                    moment = await self._broadcast.newer(number, _HEARTBEAT_S)
                    if moment is None or not moment.jpeg:
                        continue
                    number = moment.number
                    size = str(len(moment.jpeg)).encode()
                    head = b"Content-Type: image/jpeg\r\nContent-Length: " + size + b"\r\n\r\n"
                    part = b"--" + _BOUNDARY + b"\r\n" + head + moment.jpeg + b"\r\n"
                    body = {"type": "http.response.body", "body": part, "more_body": True}
                    await asyncio.wait_for(send(body), _PATIENCE_S)
                await asyncio.wait_for(send(done), _PATIENCE_S)
            gone.cancel()


def _peers(broadcast: Broadcast, options: WebOptions) -> Peers | None:
    """Return who answers offers of WebRTC; None where it is not wanted or aiortc not installed."""
    if not options.webrtc or is_loopback(options.host):
        return None
    try:
        from rwkv_edge.web.webrtc import Peers
    except ImportError:
        return None
    return Peers(broadcast, options.max_peers)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _static_routes() -> Iterable[Route]:
    """Serve the files of the page, read once: no path from outside ever meets the disk."""
    for file in (files("rwkv_edge.web") / "static").iterdir():
        kind = _KINDS.get(PurePath(file.name).suffix)
        if kind is None or file.name.startswith(".") or not file.is_file():  # an editor's leftover
            continue
        path = "/" if file.name == _PAGE else f"/{file.name}"
        content = file.read_bytes()

        async def serve(request: Request, content: bytes = content, kind: str = kind) -> Response:
            return Response(content, headers={"content-type": kind})

        yield Route(path, serve, methods=["GET"])
