from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest

from rwkv_edge.errors import OutputError, UsageError
from rwkv_edge.video.live import Controls, Signal
from rwkv_edge.web.hub import WebSink
from rwkv_edge.web.options import WebOptions
from rwkv_edge.web.server import WebServer
from tests.web.conftest import TOKEN, live_frame


def test_status_and_events(client: httpx.Client, sink: WebSink) -> None:
    status = client.get("/status").json()
    assert (status["signal"], status["frame"], status["age"]) == ("NO SIGNAL", 0, None)
    sink.write(live_frame())
    status = client.get("/status").json()
    assert (status["signal"], status["frame"]) == ("LIVE", 1)
    assert status["backend"] == "test backend"
    events = client.get("/events").json()
    assert [event["text"] for event in events] == ["signal: LIVE", "runs on test backend"]
    assert client.get("/events", params={"after": events[0]["id"]}).json() == events[1:]
    for wrong in ("-1", "x", "9" * 40, "²"):
        assert client.get("/events", params={"after": wrong}).status_code == 400


def test_controls_change_what_the_pipeline_sees(client: httpx.Client, controls: Controls) -> None:
    answer = client.post("/controls", json={"confidence": 0.7, "frozen": True})
    assert answer.status_code == 200
    assert answer.json()["confidence"] == controls.view.confidence == 0.7
    assert controls.view.frozen is True
    assert controls.view.contour is True


def test_recording_is_refused_where_there_is_no_folder(
    client: httpx.Client, sink: WebSink, controls: Controls
) -> None:
    assert client.get("/status").json()["can_record"]
    sink.can_record = False
    answer = client.post("/controls", json={"recording": True})
    assert answer.status_code == 400
    assert "--record FOLDER" in answer.text
    assert not controls.view.recording
    assert client.post("/controls", json={"recording": False}).status_code == 200


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 1000, "no JSON"),
        (b"[]", "send an object"),
        (b'{"self": 1}', "send an object; there are confidence"),
        (b'{"confidence": NaN}', "between 0 and 1"),
        (b'{"confidence": 1' + b"0" * 900 + b"}", "between 0 and 1"),
        (b'{"confidence": "0.5"}', "must be a number"),
        (b'{"frozen": 1}', "true or false"),
        (b'{"contour": false, "fill": 2}', "between 0 and 1"),
    ],
)
def test_wrong_controls_change_nothing(
    client: httpx.Client, controls: Controls, body: bytes, words: str
) -> None:
    before = controls.view
    answer = client.post("/controls", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert words in answer.text
    assert controls.view is before
    answer = client.post("/controls", content=body, headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415


def test_a_body_is_bounded_even_without_a_length(client: httpx.Client) -> None:
    kind = {"Content-Type": "application/json"}
    assert client.post("/controls", content=b" " * 2000, headers=kind).status_code == 413
    chunks = (b" " * 500 for _ in range(8))
    assert client.post("/controls", content=chunks, headers=kind).status_code == 413


def test_a_snapshot_is_live_or_refused(client: httpx.Client, sink: WebSink) -> None:
    assert client.get("/snapshot.jpg").status_code == 409
    sink.write(live_frame(Signal.STALLED, result=False))
    assert client.get("/snapshot.jpg").status_code == 409
    sink.write(live_frame(shade=120))
    answer = client.get("/snapshot.jpg")
    name = answer.headers["content-disposition"]
    assert re.fullmatch(r'attachment; filename="rwkv-edge-[0-9a-f]{8}\.jpg"', name)
    picture = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
    assert abs(int(picture.mean()) - 120) < 3


def test_mjpeg_for_viewers_without_websockets(client: httpx.Client, sink: WebSink) -> None:
    sink.write(live_frame())
    with client.stream("GET", "/stream.mjpg") as answer:
        assert answer.headers["content-type"] == "multipart/x-mixed-replace; boundary=frame"
        data = b""
        for chunk in answer.iter_raw():
            data += chunk
            sink.write(live_frame())
            if data.count(b"\r\n\r\n") > 2:
                break
    first = data.split(b"--frame\r\n")[1]
    head, jpeg = first.split(b"\r\n\r\n", 1)
    length = re.search(rb"Content-Length: (\d+)", head)
    assert length is not None
    assert len(jpeg.removesuffix(b"\r\n")) == int(length.group(1))
    assert jpeg[:2] == b"\xff\xd8"


def test_health_and_figures(client: httpx.Client, stranger: httpx.Client, sink: WebSink) -> None:
    assert stranger.get("/healthz").json() == {"status": "ok", "signal": "NO SIGNAL"}
    assert stranger.get("/metrics").status_code == 401
    sink.write(live_frame())
    assert stranger.get("/healthz").json()["signal"] == "LIVE"
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'rwkv_edge_signal{state="LIVE"} 1' in answer.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"host": "0.0.0.0"}, "--insecure-plain-http"),
        ({"host": "192.168.1.5"}, "give --cert and --key"),
        ({"host": "example.org"}, "can be reached from other machines"),
        ({"port": 70000}, "between 0 and 65535"),
        ({"key": Path("k.pem")}, "--key needs --cert"),
        ({"token": "short"}, "16 characters"),
        ({"cert": Path("none.pem")}, "none.pem"),
        ({"cert": Path(__file__)}, "not a certificate"),
    ],
)
def test_what_is_unsafe_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        WebServer(WebSink(), Controls(), WebOptions(**options))  # type: ignore[arg-type]


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OutputError, match=f"port {port}: .*choose another --port"):
            WebServer(WebSink(), Controls(), WebOptions(port=port))


def test_an_address_of_another_machine_is_named() -> None:
    options = WebOptions("192.0.2.1", 0, insecure_plain_http=True)
    with pytest.raises(OutputError, match=r"--host 192\.0\.2\.1: this machine has no such address"):
        WebServer(WebSink(), Controls(), options)


def test_the_end_is_quick_although_people_watch(
    serve: Callable[..., WebServer], sink: WebSink, capfd: pytest.CaptureFixture[str]
) -> None:
    server = serve()
    sink.write(live_frame())
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    with httpx.stream("GET", f"{server.origin}/stream.mjpg", headers=bearer) as answer:
        next(answer.iter_raw())
        server.__exit__(None, None, None)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{server.origin}/healthz")
    assert "Traceback" not in capfd.readouterr().err
