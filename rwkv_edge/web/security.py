"""Who may talk to the page: token, Host, Origin, sizes; and the headers of every answer.

The page listens where other programs and other web sites can reach it. What is kept out, and how:
other people by the token; a web site that has its own name point here (DNS rebinding) by the Host
header; a web site that sends requests with the viewer's cookie by Origin and a SameSite cookie;
a script or frame from elsewhere by the content security policy.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rwkv_edge.web.options import is_loopback

MAX_BODY = 1024
"""Bytes; the one request that has a body is a handful of settings."""
MAX_MESSAGE = 16 * 1024
"""Bytes; the longest message of a viewer is an offer of WebRTC."""
OPEN_PATHS = ("/healthz",)
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
_LOGIN = "Open the address that the program printed when it started: it carries the access token."
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(?::\d{1,5})?")


class Guard:
    """Stands in front of the application and refuses with 400, 401, 403 or 413."""

    def __init__(
        self, app: ASGIApp, token: str, port: int, host: str, names: Iterable[str], *, tls: bool
    ) -> None:
        """Set up.

        Args:
            app: what is guarded.
            token: the secret.
            port: part of the cookie's name: cookies are shared by all ports of a machine.
            host: the address that is listened on; on a loopback one only its names are answered.
            names: further host names to answer to.
            tls: whether the connection is encrypted.
        """
        self._app = app
        self._token = token
        # the cookie is shown to every port of the host, so it does not carry the token itself
        self._session = hmac.new(token.encode(), b"session", hashlib.sha256).hexdigest()
        self._cookie = f"rwkv_edge_{port}"
        self._only_loopback = is_loopback(host)
        self._names = {name.lower() for name in names}
        self._scheme = "https" if tls else "http"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        answer = self._judge(scope)
        await (answer or self._app)(scope, receive, send_with_headers)

    def _judge(self, scope: Scope) -> Response | None:
        """Return the refusal, or the redirect that takes the token out of the address bar."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_ours(host):
            return _refuse(403, "this host name is not served here (see --allow-host)")
        origin = headers.get("origin")
        if origin is not None and origin.lower() != f"{self._scheme}://{host}".lower():
            return _refuse(403, "requests from other web sites are refused")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 9 or int(length) > MAX_BODY:
            return _refuse(413, f"at most {MAX_BODY} bytes")
        if scope["path"] in OPEN_PATHS:
            return None
        is_page = scope["type"] == "http" and scope["path"] == "/"
        if is_page and scope["method"] == "GET" and b"token=" in scope["query_string"]:
            return self._log_in(scope)
        bearer = self._has_bearer(headers)
        if not bearer and not self._has_session(headers):
            return _refuse(401, _LOGIN)
        writes = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD")
        if writes and origin is None and not bearer:
            # every browser says where it comes from; what does not, has no business with a cookie
            return _refuse(403, "no Origin header")
        return None

    def _is_ours(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = match.group(1).lower()
        if is_loopback(name) or name in self._names:
            return True
        if self._only_loopback:
            return False
        try:  # rebinding needs a name: a bare address cannot be made to point elsewhere
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True

    def _log_in(self, scope: Scope) -> Response:
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            return _refuse(401, _LOGIN)
        answer = RedirectResponse("/", status_code=303)
        answer.set_cookie(
            self._cookie,
            self._session,
            httponly=True,
            samesite="strict",
            secure=self._scheme == "https",
        )
        return answer

    def _has_bearer(self, headers: Headers) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and hmac.compare_digest(
            given.strip().encode(), self._token.encode()
        )

    def _has_session(self, headers: Headers) -> bool:
        # of other programs on this host, too, with any content: http.cookies would stop at them
        given = cookie_parser(headers.get("cookie", "")).get(self._cookie, "")
        return hmac.compare_digest(given.encode(), self._session.encode())


def _refuse(status: int, words: str) -> Response:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return PlainTextResponse(words + "\n", status, headers)
