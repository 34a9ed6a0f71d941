"""`rwkv-edge stream --output-rtsp` as a whole, beside a server that comes late."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.faults.processes import RATE, Stream, free_port, live, write_stream
from tests.video.test_rtsp_output import Receiver
from tests.web.chromium import wait_for


def test_the_live_view_goes_on_without_the_server(tmp_path: Path) -> None:
    clip, port = write_stream(tmp_path / "clip.mp4", 40), free_port()
    address = f"rtsp://me:sesame@127.0.0.1:{port}/live"
    with Stream(str(clip), tmp_path, "--output-rtsp", address) as stream:
        stream.wait_for(live, 30)
        before = len(stream.read())
        stream.wait_for(lambda line: live(line) and len(stream.read()) > before + RATE, 10)
        with Receiver(port) as receiver:
            wait_for(lambda: len(receiver.pictures) > RATE, "pictures at the server", 30)
            assert receiver.pictures[-1][:2] == [640, 480]
        stream.wait_for(live, 5)
        stream.send(signal.SIGTERM)
        out, err = stream.output()
    assert stream.child.returncode == 0, err
    assert f"RTSP OUTPUT LOST: rtsp://127.0.0.1:{port}/live: host 127.0.0.1: nothing listens" in err
    assert "sesame" not in out + err
