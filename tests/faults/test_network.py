"""Rows 1 to 8 of the fault matrix: servers that freeze, die, refuse, lie or say nothing."""

from __future__ import annotations

import contextlib
import http.server
import itertools
import signal
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from rwkv_edge.errors import SourceError
from rwkv_edge.video.capture import Capture
from rwkv_edge.video.live_source import parse_live
from tests.faults.processes import RtspServer, Stream, free_port, live, lost, write_stream

LOST_S, BACK_S, REFUSED_S = 3.0, 5.0, 5.0
"""What the user was promised."""
LOADED_S = 3.0
"""What a start of Python on a busy machine is allowed beside it."""


def address(port: int, path: str = "live.mp4?play_count=0", user: str = "") -> str:
    return f"rtsp://{user}127.0.0.1:{port}/{path}"


def test_a_server_that_freezes_and_thaws(media: Path, work: Path) -> None:
    port = free_port()
    with RtspServer(media, port) as server, Stream(address(port), work) as stream:
        stream.wait_for(live, 20)
        server.send(signal.SIGSTOP)
        assert stream.wait_for(lost, 10) < LOST_S
        count = len(stream.read())
        time.sleep(1)
        assert not any(line["result"] for line in stream.read(count))  # no mask in between
        server.send(signal.SIGCONT)
        assert stream.wait_for(live, 20) < BACK_S


def test_a_server_that_dies_and_returns(media: Path, work: Path) -> None:
    port = free_port()
    with return_after(media, port, work, outage_s=3) as took:
        assert took < BACK_S


@pytest.mark.slow_fault
def test_a_server_that_is_gone_for_a_minute(media: Path, work: Path) -> None:
    port = free_port()
    with return_after(media, port, work, outage_s=60) as took:
        assert took < BACK_S


@contextlib.contextmanager
def return_after(media: Path, port: int, work: Path, outage_s: float) -> Iterator[float]:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(RtspServer(media, port))
        stream = stack.enter_context(Stream(address(port), work))
        stream.wait_for(live, 20)
        server.send(signal.SIGKILL)
        assert stream.wait_for(lost, 10) < LOST_S
        time.sleep(outage_s)
        stack.enter_context(RtspServer(media, port))
        yield stream.wait_for(live, 20)


@pytest.mark.slow_fault
def test_a_hundred_short_outages(media: Path, work: Path) -> None:
    port, late = free_port(), []
    with RtspServer(media, port) as server, Stream(address(port), work) as stream:
        stream.wait_for(live, 20)
        for number in range(100):
            server.send(signal.SIGSTOP)
            time.sleep(0.6 + 0.02 * number)
            server.send(signal.SIGCONT)
            took = stream.wait_for(live, 20)
            late += [took] if took > BACK_S else []
    assert late == []


def refusal(source: str, work: Path, environment: dict[str, str] | None = None) -> str:
    """Start a stream that must be refused in time; return its line."""
    began = time.monotonic()
    with Stream(source, work, environment=environment) as stream:
        _, said = stream.output(20)
        assert stream.child.returncode == 1, said
    assert time.monotonic() - began < REFUSED_S + LOADED_S
    assert "sesame" not in said
    assert "Traceback" not in said
    assert len(said.strip().splitlines()) == 1
    return said


def test_each_refusal_has_words_of_its_own(media: Path, work: Path) -> None:
    port, closed = free_port(), free_port()
    user = "doctor:sesame@"
    with RtspServer(media, port, "doctor:other") as _, socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        dumb = silent.getsockname()[1]
        said = {
            "host": refusal(f"rtsp://{user}no-such-host.invalid/live", work),
            "port": refusal(address(closed, user=user), work),
            "password": refusal(address(port, user=user), work),
            "silence": refusal(address(dumb, user=user), work),
            "path": refusal(address(port, "none.mp4", "doctor:other@"), work),
        }
    assert "is unknown" in said["host"]
    assert f"nothing listens on port {closed}" in said["port"]
    assert "user or password refused" in said["password"]
    assert "nothing came" in said["silence"]
    assert "no such path" in said["path"]


def test_user_and_password_from_the_environment(media: Path, work: Path) -> None:
    port = free_port()
    secret = {"RWKV_EDGE_RTSP_USER": "doctor", "RWKV_EDGE_RTSP_PASSWORD": "open@ses/ame"}
    with (
        RtspServer(media, port, "doctor:open@ses/ame"),
        Stream(address(port), work, "--max-seconds", "2", environment=secret) as stream,
    ):
        out, said = stream.output(30)
        assert stream.child.returncode == 0, said
    assert "ses" not in out + said + stream.lines.read_text()
    assert any(live(line) for line in stream.read())


def test_a_source_that_crashes_every_second_is_not_hammered() -> None:
    """Capped back-off with jitter: in six seconds a handful of attempts, not hundreds."""
    attempts: list[float] = []
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]

    def crash() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                attempts.append(time.monotonic())
                connection.close()

    threading.Thread(target=crash, daemon=True).start()
    stop = threading.Event()
    with Capture(parse_live(address(port)), stop) as capture:
        time.sleep(6)
        assert capture.problem is not None
    server.close()
    gaps = [b - a for a, b in itertools.pairwise(attempts) if b - a > 0.05]
    assert 3 <= len(gaps) <= 15
    assert max(gaps) <= 2.1  # the cap
    assert max(gaps) > 2 * min(gaps)  # it grows
    assert len({round(gap, 2) for gap in gaps}) > 1  # and is never quite the same


def test_a_silent_source_is_left_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()
        with Capture(parse_live(address(server.getsockname()[1])), stop) as capture:
            began = time.monotonic()
            with pytest.raises(SourceError, match="nothing came"):
                capture.wait_for_first()
            assert time.monotonic() - began < REFUSED_S


def test_another_resolution_in_mid_stream_over_http(tmp_path: Path) -> None:
    one = write_stream(tmp_path / "one.ts", 1, (240, 320))
    two = write_stream(tmp_path / "two.ts", 1, (360, 480))
    (tmp_path / "both.ts").write_bytes(one.read_bytes() + two.read_bytes())

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            pass

    handler = partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/both.ts"
        shapes, bright = [], []
        try:
            with parse_live(url).connect(threading.Event()) as source:
                for frame in source:
                    shapes.append(frame.image.shape[:2])
                    bright.append(frame.image[frame.image.shape[0] * 5 // 12].max())
        except SourceError as error:
            ended = str(error)
        with pytest.raises(SourceError, match="no such path"):
            parse_live(url + "none").connect(threading.Event())
        with pytest.raises(SourceError, match="no video stream"):
            parse_live(f"http://127.0.0.1:{server.server_address[1]}/").connect(threading.Event())
        server.shutdown()
    assert "the stream ended" in ended
    assert set(shapes) == {(240, 320), (360, 480)}
    assert shapes == sorted(shapes)
    assert min(bright) > 200  # the square is where it was drawn, at both sizes
