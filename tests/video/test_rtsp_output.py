"""Publishing to a real RTSP server: a process of its own, on loopback."""

from __future__ import annotations

import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from rwkv_edge.errors import UsageError
from rwkv_edge.video.rtsp_output import RtspOutput, parse_output
from tests.faults.processes import Process, free_port
from tests.web.conftest import live_frame

COLOUR = (40, 90, 200)


class Receiver(Process):
    def __init__(self, port: int) -> None:
        script = Path(__file__).with_name("rtsp_receiver.py")
        super().__init__([sys.executable, str(script), str(port)])
        assert self.child.stdout is not None
        assert self.child.stdout.readline() == "ready\n"
        self.pictures: list[list[int]] = []
        """Width, height, blue, green, red of each that came."""
        self._reader = threading.Thread(target=self._read, args=[self.child.stdout])
        self._reader.start()

    def _read(self, lines: IO[str]) -> None:
        for line in lines:
            if line != "ready\n":
                self.pictures.append([int(word) for word in line.split()])

    def __exit__(self, *error: Any) -> None:
        self.child.kill()
        self._reader.join()
        super().__exit__(*error)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def output(port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[RtspOutput]:
    monkeypatch.setattr("rwkv_edge.video.rtsp_output._BACK_OFF_S", 0.05)
    monkeypatch.setattr("rwkv_edge.video.rtsp_output._BACK_OFF_CAP_S", 0.2)
    output = RtspOutput(parse_output(f"rtsp://me:sesame@127.0.0.1:{port}/live"))
    yield output
    output.close()


def publish(
    output: RtspOutput, done: Callable[[], bool], size: tuple[int, int] = (96, 128)
) -> None:
    """Publish thirty pictures a second until something is so."""
    frame = replace(live_frame(), image=np.full((*size, 3), COLOUR, np.uint8))
    end = time.monotonic() + 30
    while not done():
        assert time.monotonic() < end, output.notice
        output.write(frame)
        assert "sesame" not in output.notice
        time.sleep(1 / 30)


def test_the_pictures_arrive_as_they_are(output: RtspOutput, port: int) -> None:
    with Receiver(port) as receiver:
        publish(output, lambda: len(receiver.pictures) >= 10)
        assert output.notice == ""
        width, height, *colour = receiver.pictures[-1]
        assert (width, height) == (128, 96)
        assert np.allclose(colour, COLOUR, atol=6)
        # announced anew, odd sides made even
        publish(output, lambda: receiver.pictures[-1][:2] == [162, 122], size=(121, 161))


def test_a_server_that_comes_goes_and_comes_back(output: RtspOutput, port: int) -> None:
    publish(output, lambda: "nothing listens on port" in output.notice)
    for _ in range(2):
        with Receiver(port) as receiver:
            publish(output, lambda: output.notice == "" and len(receiver.pictures) > 0)
        publish(output, lambda: output.notice.startswith("RTSP OUTPUT LOST: rtsp://127.0.0.1:"))


def test_a_server_that_hangs_is_left(
    output: RtspOutput, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rwkv_edge.video.rtsp_output._ANSWER_S", 0.3)
    with socket.create_server(("127.0.0.1", port)):  # takes connections, and says nothing
        publish(output, lambda: "the server does not answer" in output.notice)
    with Receiver(port) as receiver:
        publish(output, lambda: output.notice == "")
        receiver.send(signal.SIGSTOP)
        rng = np.random.default_rng(0)
        noise = rng.integers(0, 256, (480, 640, 3), np.uint8)  # fills whatever buffers there are
        output.close()
        end = time.monotonic() + 60
        while output.notice == "" and time.monotonic() < end:
            output.write(replace(live_frame(), image=noise))
        assert output.notice.startswith("RTSP OUTPUT LOST")


def test_wrong_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("http://me:sesame@box/x", "box", "rtsp:///x", "rtsp://me:sesame@box:x/"):
        with pytest.raises(UsageError, match=r"^--output-rtsp") as caught:
            parse_output(text)
        assert "sesame" not in str(caught.value)
    monkeypatch.setenv("RWKV_EDGE_RTSP_USER", "camera")
    monkeypatch.setenv("RWKV_EDGE_RTSP_PASSWORD", "sesame")
    assert parse_output("rtsp://box/x").url == "rtsp://box/x"  # the camera's are not for others
    (tmp_path / "file").write_text("me\nmine\n")
    assert parse_output("rtsp://box/x", tmp_path / "file").url == "rtsp://me:mine@box/x"
