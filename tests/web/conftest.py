from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import httpx
import numpy as np
import pytest

from rwkv_edge.preprocess import Component
from rwkv_edge.video.base import Frame
from rwkv_edge.video.live import Controls, LiveFrame, Signal
from rwkv_edge.video.result import Result
from rwkv_edge.web.hub import WebSink
from rwkv_edge.web.options import WebOptions
from rwkv_edge.web.server import WebServer

TOKEN = "a-token-for-the-tests"


def live_frame(
    signal: Signal = Signal.LIVE,
    *,
    finding: bool = True,
    result: bool = True,
    valid: bool = True,
    recording: bool = False,
    age: float = 0.02,
    shade: int = 90,
) -> LiveFrame:
    image = np.full((48, 64, 3), shade, np.uint8)
    components = [Component(1, 99, (8, 8, 9, 11), 0.87)] if finding else []
    latency = {"capture": 500.0, "preprocess": 1.0, "inference": 30.0, "postprocess": 2.0}
    captured = time.monotonic() - age
    frame = Frame(0, 0.0, image, "0", captured)
    segmented = Result(frame, image[..., 0], components, ["polyp"], valid, latency)
    return LiveFrame(
        image, segmented if result else None, signal, captured, 24.5, 3, recording, "test backend"
    )


@pytest.fixture
def sink() -> WebSink:
    return WebSink()


@pytest.fixture
def controls() -> Controls:
    return Controls()


@pytest.fixture
def serve(sink: WebSink, controls: Controls) -> Iterator[Callable[..., WebServer]]:
    """Start a server with some options; it ends with the test."""
    servers = []

    def start(**options: object) -> WebServer:
        chosen = WebOptions(**{"port": 0, "token": TOKEN, **options})  # type: ignore[arg-type]
        servers.append(WebServer(sink, controls, chosen).__enter__())
        return servers[-1]

    yield start
    for server in servers:
        server.__exit__(None, None, None)


@pytest.fixture
def server(serve: Callable[..., WebServer]) -> WebServer:
    return serve()


@pytest.fixture
def client(server: WebServer) -> Iterator[httpx.Client]:
    """A program with the token."""
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=server.origin, headers=bearer) as client:
        yield client


@pytest.fixture
def stranger(server: WebServer) -> Iterator[httpx.Client]:
    """A program without it."""
    with httpx.Client(base_url=server.origin) as client:
        yield client
