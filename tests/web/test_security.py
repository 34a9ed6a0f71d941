"""Fault 25 of the matrix: strangers, foreign sites, path tricks and noise, on a real server."""

from __future__ import annotations

import logging
import random
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from rwkv_edge.web.hub import WebSink
from rwkv_edge.web.options import is_loopback
from rwkv_edge.web.security import HEADERS
from rwkv_edge.web.server import WebServer
from tests.web.conftest import TOKEN, live_frame

PATHS = (
    "/", "/app.js", "/style.css", "/status", "/events", "/snapshot.jpg", "/stream.mjpg",
    "/metrics", "/controls", "/nothing",
)  # fmt: skip


def websocket_status(server: WebServer, **headers: str) -> int:
    address = f"ws://127.0.0.1:{server.port}/live"
    try:
        with connect(address, additional_headers=headers, proxy=None):
            return 101
    except InvalidStatus as error:
        return error.response.status_code


def test_without_the_token_there_is_nothing(stranger: httpx.Client, server: WebServer) -> None:
    for path in PATHS:
        for wrong in ({}, {"Authorization": "Bearer x"}, {"Authorization": f"Basic {TOKEN}"}):
            assert stranger.get(path, headers=wrong).status_code == 401
    for cookie in ("x", f"rwkv_edge_{server.port}=x", f"rwkv_edge_{server.port}={TOKEN}", '"\\'):
        assert stranger.get("/", headers={"Cookie": cookie}).status_code == 401
    assert stranger.get("/?token=wrong").status_code == 401
    assert stranger.get("/?token=").status_code == 401
    assert stranger.get(f"/status?token={TOKEN}").status_code == 401  # only where it is taken away
    assert stranger.post("/controls", json={}).status_code == 401
    assert websocket_status(server) == 401


def test_the_token_becomes_a_cookie_and_leaves_the_address(
    stranger: httpx.Client, server: WebServer
) -> None:
    answer = stranger.get(server.url)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie  # other programs on other ports of this machine see it
    assert stranger.get("/").status_code == 200
    own = {"Origin": server.origin}
    assert stranger.post("/controls", json={"fill": 0.1}, headers=own).status_code == 200
    for others in ("", 'a={"x":1}; ', "b=x y; ", "c[0]=1; ", "=; ;"):  # of other programs
        session = {"Cookie": others + cookie.split(";")[0]}
        assert websocket_status(server, **session, **own) == 101, others


def test_other_web_sites_are_refused(
    stranger: httpx.Client, client: httpx.Client, server: WebServer
) -> None:
    stranger.get(server.url)
    session = {"Cookie": "; ".join(f"{k}={v}" for k, v in stranger.cookies.items())}
    port = server.port
    for origin in (
        "http://evil.example", "null", "", f"https://127.0.0.1:{port}",
        f"http://127.0.0.1:{port + 1}", f"http://127.0.0.1:{port}.evil.example",
    ):  # fmt: skip
        foreign = {"Origin": origin}
        assert stranger.post("/controls", json={}, headers=foreign).status_code == 403
        assert client.post("/controls", json={}, headers=foreign).status_code == 403
        assert stranger.get("/snapshot.jpg", headers=foreign).status_code == 403
        assert websocket_status(server, **session, **foreign) == 403
    assert stranger.post("/controls", json={}).status_code == 403  # a browser would say
    assert websocket_status(server, **session) == 403
    assert "access-control-allow-origin" not in client.options("/status").headers


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.1.5", "",
     "127.0.0.1@evil.example", "localhost/x", "[::1", "a b", "localhost:port"],
)  # fmt: skip
def test_other_host_names_are_refused(client: httpx.Client, host: str) -> None:
    assert client.get("/status", headers={"Host": host}).status_code == 403
    assert client.get("/healthz", headers={"Host": host}).status_code == 403


def test_the_own_names_are_answered(serve: Callable[..., WebServer]) -> None:
    server = serve()
    for host in ("localhost", "LocalHost:9", f"127.0.0.1:{server.port}", "[::1]:80"):
        answer = httpx.get(f"{server.origin}/healthz", headers={"Host": host})
        assert answer.status_code == 200
    everywhere = serve(host="0.0.0.0", insecure_plain_http=True, allow_hosts=("box.ward",))
    address = f"http://127.0.0.1:{everywhere.port}/healthz"
    for host in ("192.168.1.5:8080", "[fe80::1]", "localhost", "box.ward:1", socket.gethostname()):
        assert httpx.get(address, headers={"Host": host}).status_code == 200, host
    # a foreign name that points here is what DNS rebinding is made of
    assert httpx.get(address, headers={"Host": "evil.example"}).status_code == 403


def test_every_answer_carries_the_headers(client: httpx.Client, stranger: httpx.Client) -> None:
    for answer in (client.get("/"), client.get("/nothing"), stranger.get("/"), client.put("/")):
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
        assert "server" not in answer.headers


@pytest.mark.parametrize(
    "path",
    ["/../server.py", "/..%2fserver.py", "/static/../../server.py", "//etc/passwd", "/%2e%2e/x",
     "/app.js/", "/app.js%00", "/./app.js/../../hub.py", "/%ff", "/\\..\\hub.py", "/index.html"],
)  # fmt: skip
def test_path_tricks_find_nothing(server: WebServer, path: str) -> None:
    connection = HTTPConnection("127.0.0.1", server.port)  # the one that leaves the path alone
    connection.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})
    assert connection.getresponse().status == 404
    connection.close()


def raw_status(port: int, data: bytes) -> int | None:
    """Send bytes as they are; None: the connection was closed without an answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            line = connection.makefile("rb").readline()
        except ConnectionError:
            return None
    return int(line.split()[1]) if line else None


def test_noise_is_answered_with_4xx(
    server: WebServer, sink: WebSink, caplog: pytest.LogCaptureFixture
) -> None:
    """600 requests, half with the token: mended, shuffled, cut, and plain noise."""
    sink.write(live_frame())
    rng = random.Random(5)
    methods = ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "TRACE", "X" * 300, "g\x01t"]
    headers = [
        "Host: localhost", "Host: evil", "Content-Length: 5", "Content-Length: -1",
        "Content-Length: 99999999999999999999", "Transfer-Encoding: chunked",
        "Content-Type: application/json", "Origin: null", "Cookie: \x7f=;=;",
        "Cookie: a=" + "b" * 9000,
        "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: x",
        "Sec-WebSocket-Version: 13", "Expect: 100-continue", "X: \xff\xfe", "Range: bytes=9-1",
        "A" * 20000 + ": 1",
    ]  # fmt: skip
    bodies = ["", "hello", "{}", '{"confidence": 1e999}', "[" * 900, "0\r\n\r\n", "zz\r\n"]
    seen: dict[int | None, int] = {}
    for number in range(600):
        path = rng.choice(
            [*PATHS, "/live", "*", "http://x/", "/" + "%41" * 50, "/events?after=%00"]
        )
        if path == "/stream.mjpg":
            path = "/stream.mjp"  # the one that never ends
        chosen = rng.sample(headers, rng.randint(0, 6))
        if number % 2:
            chosen += ["Host: localhost", f"Authorization: Bearer {TOKEN}"]
        method = rng.choice(methods)
        text = f"{method} {path} HTTP/1.1\r\n" + "\r\n".join([*chosen, "", rng.choice(bodies)])
        data = bytearray(text.encode("latin-1"))
        if rng.random() < 0.2:
            data = data[: rng.randrange(len(data))]
        for _ in range(rng.choice([0, 0, 0, 3, 40])):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        status = raw_status(server.port, bytes(data))
        seen[status] = seen.get(status, 0) + 1
        assert status is None or status < 500, bytes(data)
    assert sum(count for status, count in seen.items() if status and status >= 400) > 300
    assert "Traceback" not in caplog.text
    assert httpx.get(f"{server.origin}/healthz").status_code == 200


def test_who_says_nothing_is_let_go(
    serve: Callable[..., WebServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rwkv_edge.web.server._FIRST_REQUEST_S", 0.2)
    server = serve()
    for words in (b"", b"GET / HTTP/1.1\r\nHost: loc"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(words)
            assert connection.recv(1) == b""


def test_the_token_is_in_no_log(
    serve: Callable[..., WebServer],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    server = serve()
    for path in (f"/?token={TOKEN}", f"/status?token={TOKEN}", f"/?token={TOKEN}&\x7f"):
        raw_status(server.port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    address = f"ws://127.0.0.1:{server.port}/live?token={TOKEN}"
    with pytest.raises(InvalidStatus), connect(address, proxy=None, logger=logging.Logger("mine")):
        pass
    out, err = capfd.readouterr()
    ours = [r.getMessage() for r in caplog.records if not r.name.startswith("http")]
    assert TOKEN not in "\n".join([*ours, out, err])


def test_random_tokens_differ(serve: Callable[..., WebServer]) -> None:
    urls = [serve(token=None).url for _ in range(2)]
    tokens = {url.split("token=")[1] for url in urls}
    assert len(tokens) == 2
    assert all(len(token) >= 32 for token in tokens)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl: TLS is not tried")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key,
         "-out", cert, "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


def test_tls(serve: Callable[..., WebServer], certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    server = serve(cert=cert, key=key)
    assert server.url.startswith("https://127.0.0.1:")
    context = ssl.create_default_context(cafile=cert)
    answer = httpx.get(server.url, verify=context)
    assert answer.status_code == 303
    assert "Secure" in answer.headers["set-cookie"]
    session = {"Cookie": answer.headers["set-cookie"].split(";")[0], "Origin": server.origin}
    address = f"wss://127.0.0.1:{server.port}/live"
    with connect(address, additional_headers=session, ssl=context, proxy=None) as viewer:
        assert viewer.recv(timeout=10)
    plain = f"http://127.0.0.1:{server.port}"
    with pytest.raises(httpx.TransportError):
        httpx.get(plain)


def test_loopback_addresses() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "localhost.evil.org", "")))
