"""The web server, in a thread of its own beside the pipeline."""

from __future__ import annotations

import asyncio
import errno
import secrets
import socket
import threading
import time
from types import TracebackType

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from rwkv_edge.errors import OutputError
from rwkv_edge.video.live import Controls
from rwkv_edge.web.hub import WebSink
from rwkv_edge.web.options import WebOptions
from rwkv_edge.web.routes import Page
from rwkv_edge.web.security import MAX_MESSAGE, Guard

_FIRST_REQUEST_S = 10.0
"""Who connects and has not asked for anything by then is let go."""
_CONNECTIONS = 512


class _Protocol(H11Protocol):
    """What uvicorn leaves open: silence for ever, and a body that turns into noise."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(_FIRST_REQUEST_S, self._expire)

    def send_400_response(self, msg: str) -> None:
        super().send_400_response(msg)
        if self.cycle is not None:  # a bad body behind good headers, whose answer is in the making
            self.cycle.disconnected = True

    def _expire(self) -> None:
        # a WebSocket has put another protocol in this one's place
        if self.cycle is None and self.transport.get_protocol() is self:
            self.transport.close()


class WebServer:
    """Serves the page from a thread of its own for as long as the context is open."""

    def __init__(
        self, sink: WebSink, controls: Controls, options: WebOptions | None = None
    ) -> None:
        """Claim the address.

        Raises:
            UsageError: unsafe or impossible options.
            OutputError: the address is taken or not this machine's.
        """
        options = options or WebOptions()
        options.check()
        self._token = options.token or secrets.token_urlsafe(24)
        self._tls = options.cert is not None
        self._host = options.host
        self._socket = _listen(options.host, options.port)
        self.port: int = self._socket.getsockname()[1]
        self._page = Page(sink, controls, options)
        guarded = Guard(
            self._page.app,
            self._token,
            self.port,
            options.host,
            (socket.gethostname(), *options.allow_hosts),
            tls=self._tls,
        )
        self._server = uvicorn.Server(
            uvicorn.Config(
                guarded,
                http=_Protocol,
                loop="asyncio",
                lifespan="on",
                access_log=False,  # it would hold the address with the token
                log_config=None,
                log_level="error",  # noise from outside shall not fill the disk
                server_header=False,
                proxy_headers=False,
                ws_max_size=MAX_MESSAGE,
                ws_per_message_deflate=False,  # a JPEG does not shrink
                h11_max_incomplete_event_size=16 * 1024,
                limit_concurrency=_CONNECTIONS,
                timeout_graceful_shutdown=3,
                ssl_certfile=options.cert,
                ssl_keyfile=options.key,
            )
        )
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="web", daemon=True
        )

    @property
    def url(self) -> str:
        """The address with the token: print it once, to a person."""
        return f"{self.origin}/?token={self._token}"

    @property
    def origin(self) -> str:
        """The address without the token."""
        host = socket.gethostname() if self._host in ("0.0.0.0", "::") else self._host
        host = f"[{host}]" if ":" in host else host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    def __enter__(self) -> WebServer:
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise OutputError(f"the web page on {self.origin} could not be started")
            time.sleep(0.01)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._page.broadcast.closing = True
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise OutputError(f"--host {host}: {error.strerror or error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise OutputError(
                f"--host {host}: this machine has no such address; 0.0.0.0 takes all that it has"
            ) from error
        raise OutputError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; choose another --port"
        ) from error
    return listener
