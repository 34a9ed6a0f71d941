"""Row 25: viewers of the live page who do not read what they asked for. Strangers: tests/web."""

from __future__ import annotations

import base64
import json
import secrets
import socket
import statistics
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.faults.processes import Stream, free_port, live, rates, write_stream

CLIENTS, PAIRS, PHASE_S, SETTLE_S = 200, 6, 5.0, 1.5
LEAST_SHARE = 0.95
"""Of the rate without the clients."""


def connect(port: int, request: str) -> socket.socket:
    """Ask for something and read nothing of it."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(10)
    client.connect(("127.0.0.1", port))
    client.sendall(request.encode())
    return client


@contextmanager
def slow_clients(port: int, token: str) -> Iterator[None]:
    """As many as are let in, by WebSocket and MJPEG; the rest is turned away or never ends its
    request."""
    head = f"Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n"
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    requests = (
        f"GET /stream.mjpg HTTP/1.1\r\n{head}\r\n",
        f"GET /live HTTP/1.1\r\n{head}{upgrade}Sec-WebSocket-Key: {key}\r\n\r\n",
        f"GET /live HTTP/1.1\r\n{head}",
    )
    with ExitStack() as stack:
        for number in range(CLIENTS):
            stack.enter_context(connect(port, requests[number % len(requests)]))
        yield


def viewers(port: int, token: str) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics")
    request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("rwkv_edge_viewers ")))


@pytest.mark.slow_fault
def test_two_hundred_slow_clients_leave_the_rate_as_it_is(work: Path) -> None:
    """With and without them in turn, so that the machine's other work counts on both sides."""
    seconds = 2 * PAIRS * (PHASE_S + 2 * SETTLE_S) + 30
    clip = write_stream(work / "long.mp4", seconds, (240, 320))
    port, token = free_port(), secrets.token_urlsafe()
    (work / "token").write_text(token)
    words = ["--web", "--port", str(port), "--token-file", str(work / "token")]
    watched, unwatched = [], []
    with Stream(str(clip), work, *words) as stream:
        stream.wait_for(live, 30)
        for _ in range(PAIRS):
            for with_them, found in ((False, unwatched), (True, watched)):
                with ExitStack() as stack:
                    if with_them:
                        stack.enter_context(slow_clients(port, token))
                    time.sleep(SETTLE_S)
                    if with_them:
                        assert viewers(port, token) > 20
                    count = len(stream.read())
                    time.sleep(PHASE_S)
                    found += rates(stream.read(count))
    assert statistics.median(watched) > LEAST_SHARE * statistics.median(unwatched), json.dumps(
        {"with": watched, "without": unwatched}
    )
