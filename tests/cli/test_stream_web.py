"""`rwkv-edge stream --web` from outside: a real process, a real browser's requests."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.video.clips import numbered, write_clip


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", numbered(20) * 15)  # half a minute


def test_the_page_shows_the_stream(clip: Path, tmp_path: Path) -> None:
    words = ["stream", "--source", str(clip), "--headless", "--web", "--port", "0"]
    command = [sys.executable, "-m", "rwkv_edge", *words, "--max-seconds", "60"]
    log = tmp_path / "log.txt"
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
        try:
            found = None
            for _ in range(300):
                found = re.search(
                    r"live page: (http://127\.0\.0\.1:\d+)/\?token=(\S+)", log.read_text()
                )
                if found or process.poll() is not None:
                    break
                time.sleep(0.1)
            assert found, log.read_text()
            origin, token = found.groups()
            assert httpx.get(f"{origin}/").status_code == 401
            assert httpx.get(f"{origin}/healthz").status_code == 200
            with httpx.Client(base_url=origin, follow_redirects=True) as client:
                page = client.get("/", params={"token": token})
                assert "rwkv-edge" in page.text
                assert "token=" not in str(page.url)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) is not None
        finally:
            process.kill()
    assert token not in log.read_text().replace(f"token={token}", "")
