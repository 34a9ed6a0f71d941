from __future__ import annotations

import contextlib
import json
import struct
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from websockets.sync.client import ClientConnection, connect

from rwkv_edge.errors import OutputError
from rwkv_edge.video.live import Signal
from rwkv_edge.web import hub
from rwkv_edge.web.hub import WebSink, encode_jpeg, patience
from rwkv_edge.web.server import WebServer
from tests.web.chromium import wait_for
from tests.web.conftest import TOKEN, live_frame


def watch(server: WebServer) -> ClientConnection:
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    address = f"ws://127.0.0.1:{server.port}/live"
    return connect(address, additional_headers=bearer, compression=None, proxy=None)


def read(message: str | bytes) -> tuple[float, dict[str, Any], bytes]:
    assert isinstance(message, bytes)
    age, _, length = struct.unpack_from("<ddI", message)
    return age, json.loads(message[20 : 20 + length]), message[20 + length :]


def test_a_viewer_gets_picture_and_state_of_one_moment(server: WebServer, sink: WebSink) -> None:
    with watch(server) as viewer:
        sink.write(live_frame(shade=200, age=0.5))
        age, status, jpeg = read(viewer.recv(timeout=10))
        while not jpeg:
            viewer.send("shown")
            age, status, jpeg = read(viewer.recv(timeout=10))
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (48, 64, 3)
    assert abs(int(picture.mean()) - 200) < 3
    assert age >= 0.5
    assert status["signal"] == "LIVE"
    assert status["latency_ms"] == 33.0  # waiting for the camera is no latency
    assert status["findings"] == [{"class": "polyp", "confidence": 0.87}]
    assert status["view"]["confidence"] == 0.5
    assert (status["dropped"], status["fps"], status["recording"]) == (3, 24.5, False)


def test_without_viewers_nothing_is_encoded(server: WebServer, sink: WebSink) -> None:
    for _ in range(20):
        sink.write(live_frame())
    with watch(server) as viewer:
        assert read(viewer.recv(timeout=10))[2]  # the newest, at once
    assert sink.metrics.encoded == 1


def calls_of(function: Callable[[], None]) -> int:
    """Count what a call does, in calls of Python and C: a measure no busy machine can disturb."""
    count = 0

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def most_work(sink: WebSink) -> int:
    counts = []
    for _ in range(30):
        frame = live_frame()
        counts.append(calls_of(lambda frame=frame: sink.write(frame)))  # type: ignore[misc]
        time.sleep(0.01)
    return max(counts)


def test_slow_viewers_cost_the_pipeline_nothing(
    serve: Callable[..., WebServer], sink: WebSink
) -> None:
    """200 that never say that they have shown a picture; the work of a write stays the same."""
    server = serve(max_viewers=300)
    sink.write(live_frame())
    with ExitStack() as stack:
        attentive = stack.enter_context(watch(server))
        most_work(sink)  # the first frames make events
        alone = most_work(sink)
        slow = [stack.enter_context(watch(server)) for _ in range(200)]
        for viewer in slow:
            read(viewer.recv(timeout=30))
        encoded = sink.metrics.encoded
        assert most_work(sink) <= alone
        assert 1 <= sink.metrics.encoded - encoded <= 30  # once a frame, not once a viewer
        for viewer in slow:  # one picture was under way, and no second one was queued behind it
            with pytest.raises(TimeoutError):
                viewer.recv(timeout=0)
        last = live_frame(shade=250)
        sink.write(last)
        end = time.monotonic() + 20
        shade = 0.0
        while shade < 245 and time.monotonic() < end:  # who keeps up sees the newest
            jpeg = read(attentive.recv(timeout=10))[2]
            attentive.send("shown")
            if jpeg:
                shade = float(cv2.imdecode(np.frombuffer(jpeg, np.uint8), 0).mean())
        assert shade >= 245


def test_a_viewer_too_many_is_turned_away(serve: Callable[..., WebServer], sink: WebSink) -> None:
    server = serve(max_viewers=1)
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    with watch(server):
        with pytest.raises(Exception, match="429"), watch(server):
            pass
        assert httpx.get(f"{server.origin}/stream.mjpg", headers=bearer).status_code == 429
    assert sink.metrics.refused == 2

    def welcome() -> bool:
        with contextlib.suppress(Exception), watch(server):
            return True
        return False

    assert wait_for(welcome, "the place that was left", 10)


def test_silence_and_the_end_are_told(
    server: WebServer, sink: WebSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sink.signal is Signal.NO_SIGNAL
    sink.write(live_frame())
    assert sink.signal is Signal.LIVE
    with watch(server) as viewer:
        read(viewer.recv(timeout=10))
        viewer.send("shown")
        monkeypatch.setattr(hub, "_STALE_S", (0.0, 0.0))  # the pipeline hangs
        _, status, jpeg = read(viewer.recv(timeout=10))
        assert (status["signal"], jpeg) == ("STALLED", b"")
    sink.write(live_frame(Signal.RECONNECTING, result=False))
    assert sink.signal is Signal.RECONNECTING
    sink.close()
    assert sink.signal is Signal.NO_SIGNAL


def test_patience_follows_the_rate() -> None:
    assert [patience(fps) for fps in (60, 2, 0.5, 0)] == [1.0, 1.5, 2.0, 2.0]


def test_a_write_after_the_server_is_fine(serve: Callable[..., WebServer], sink: WebSink) -> None:
    server = serve()
    writer_on = threading.Event()
    errors: list[BaseException] = []

    def keep_writing() -> None:
        try:
            while not writer_on.is_set():
                sink.write(live_frame())
        except BaseException as error:
            errors.append(error)

    with watch(server) as viewer:
        thread = threading.Thread(target=keep_writing)
        thread.start()
        read(viewer.recv(timeout=10))
        server.__exit__(None, None, None)
        writer_on.set()
        thread.join()
    assert not errors


def test_what_cannot_be_encoded_is_reported(server: WebServer, sink: WebSink) -> None:
    with pytest.raises(OutputError, match="cannot become a JPEG"):
        encode_jpeg(np.zeros((0, 0, 3), np.uint8))
    with watch(server) as viewer:
        sink.write(replace(live_frame(), image=np.zeros((0, 0, 3), np.uint8)))
        wait_for(lambda: "cannot become" in sink.events()[-1].text, "the event", 10)
        sink.write(live_frame())  # and the next one is shown
        while not read(viewer.recv(timeout=10))[2]:
            viewer.send("shown")


def test_a_viewer_is_told_how_long_the_program_waited(server: WebServer, sink: WebSink) -> None:
    """What else passes between its asking and the arrival is the way."""
    with watch(server) as viewer:
        while not read(viewer.recv(timeout=10))[2]:
            viewer.send("shown")
            sink.write(live_frame())
        viewer.send("shown")
        time.sleep(0.3)
        sink.write(live_frame(age=0.1))
        age, waited, _ = struct.unpack_from("<ddI", viewer.recv(timeout=10))
    assert 0.25 < waited < 5
    assert 0.1 <= age < waited
