"""The pictures of the page in docs/, taken in a real browser on rendered frames.

`python -m tests.web.screenshots docs`, on a machine that has nothing else to do: the figures on
the page are real.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from rwkv_edge.video.live import Controls, Signal
from rwkv_edge.web.hub import WebSink
from rwkv_edge.web.options import WebOptions
from rwkv_edge.web.server import WebServer
from tests.web.chromium import Chromium
from tests.web.feed import Feed, rendered

_MINUTE_S = 64  # so that the charts are full


def main(folder: Path) -> None:
    sink, controls = WebSink(), Controls()
    clip = rendered(60, (480, 640))
    with (
        tempfile.TemporaryDirectory() as profile,
        WebServer(sink, controls, WebOptions(port=0)) as server,
        Feed(sink, controls, clip) as feed,
        Chromium(Path(profile)) as browser,
    ):
        browser.size(1280, 800)
        browser.open(server.url)
        browser.until("document.getElementById('state').textContent === 'LIVE'")
        controls.update(recording=True)
        time.sleep(_MINUTE_S)
        (folder / "live.jpg").write_bytes(browser.screenshot(85))
        controls.update(recording=False)
        browser.size(390, 844, mobile=True, scale=2)
        time.sleep(2)
        (folder / "live-phone.jpg").write_bytes(browser.screenshot(78))
        browser.size(1280, 800)
        feed.signal = Signal.NO_SIGNAL
        time.sleep(7)
        (folder / "live-no-signal.jpg").write_bytes(browser.screenshot(85))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
