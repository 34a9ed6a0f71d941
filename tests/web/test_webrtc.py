"""The picture by WebRTC, in a real browser: that it comes, and that a frozen one is no live one.

Then what it may not do: more encoders than allowed, questions to other servers, old frames.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from websockets.sync.client import ClientConnection

from rwkv_edge.video.live import Controls, Signal
from rwkv_edge.web.hub import Broadcast, WebSink
from rwkv_edge.web.server import WebServer
from tests.web.chromium import BROWSER, Chromium
from tests.web.conftest import TOKEN, live_frame
from tests.web.test_hub import watch

COLOUR = (40, 90, 200)
"""BGR."""
STATE = "document.getElementById('state').textContent"
CARRIER = "document.getElementById('carrier').textContent"
GREYED = "getComputedStyle(document.getElementById('{}')).filter.includes('grayscale')"
PIXEL = """(() => {
  const video = document.getElementById('video');
  const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  const pen = canvas.getContext('2d');
  pen.drawImage(video, 0, 0);
  return [...pen.getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data.slice(0, 3)];
})()"""


class Writer:
    """Thirty pictures a second, odd-sized, in one colour."""

    def __init__(self, sink: WebSink) -> None:
        self.signal = Signal.LIVE
        self.paused = False
        self.size = (121, 161)
        self._sink = sink
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.wait(1 / 30):
            image = np.full((*self.size, 3), COLOUR, np.uint8)
            if not self.paused:
                self._sink.write(replace(live_frame(self.signal), image=image))

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def writer(sink: WebSink) -> Iterator[Writer]:
    with Writer(sink) as writer:
        yield writer


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    if BROWSER is None:
        pytest.skip("no Chromium: WebRTC is not tried (apt install chromium)")
    with Chromium(tmp_path_factory.mktemp("chromium")) as browser:
        browser.size(1280, 800)
        yield browser


@pytest.fixture
def page(browser: Chromium) -> Iterator[Chromium]:
    browser.problems.clear()
    yield browser
    browser.open("about:blank")


@pytest.fixture
def everywhere(serve: Callable[..., WebServer]) -> Callable[..., WebServer]:
    """Start a server for other machines: for this one alone WebRTC is not offered."""
    pytest.importorskip("aiortc", reason="no aiortc: WebRTC is not tried")
    return lambda **options: serve(host="0.0.0.0", insecure_plain_http=True, **options)


def url(server: WebServer) -> str:
    return f"http://127.0.0.1:{server.port}/?token={TOKEN}"


def test_the_picture_comes_by_webrtc(
    page: Chromium, everywhere: Callable[..., WebServer], writer: Writer, sink: WebSink
) -> None:
    page.open(url(everywhere()))
    page.until(f"{CARRIER} === 'WebRTC' && {STATE} === 'LIVE'")
    assert page.run("[video.videoWidth, video.videoHeight]") == [162, 122]
    shown = "video.getVideoPlaybackQuality().totalVideoFrames"
    before = page.run(shown)
    page.until(f"{shown} > {before} + 20")
    blue, green, red = COLOUR
    assert np.allclose(page.run(PIXEL), (red, green, blue), atol=8)
    assert page.run("document.getElementById('picture').hidden && !video.hidden")
    assert not page.run(GREYED.format("video"))
    assert 0 < float(page.run("document.getElementById('age').textContent")) < 1000
    encoded = sink.metrics.encoded
    page.until(f"{shown} > {before} + 60")
    assert sink.metrics.encoded == encoded  # nobody wants a JPEG
    assert page.problems == []


def test_a_frozen_track_turns_grey_and_the_websocket_takes_over(
    page: Chromium,
    everywhere: Callable[..., WebServer],
    writer: Writer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The browser goes on showing the last frame, while the program says that it is live."""
    from rwkv_edge.web.webrtc import Picture

    page.open(url(everywhere()))
    page.until(f"{CARRIER} === 'WebRTC' && {STATE} === 'LIVE'")
    # whatever is greyed from now on is noted, however short it lasts
    page.run(f"""globalThis.seen = []; setInterval(() => {{
      const words = [{CARRIER}, {STATE}, {GREYED.format("video")}].join(' ');
      if (seen.at(-1) !== words) seen.push(words);
    }}, 20)""")

    async def hang(track: Picture) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Picture, "recv", hang)
    page.until(f"{CARRIER} === 'WebSocket' && {STATE} === 'LIVE' && !document.hidden")
    assert page.run("document.getElementById('video').hidden")
    assert not page.run(GREYED.format("picture"))
    seen = page.run("seen")
    assert "WebRTC STALLED true" in seen
    assert "WebRTC STALLED false" not in seen


def test_what_the_program_says_is_shown_by_webrtc_too(
    page: Chromium, everywhere: Callable[..., WebServer], writer: Writer
) -> None:
    page.open(url(everywhere()))
    page.until(f"{CARRIER} === 'WebRTC' && {STATE} === 'LIVE'")
    writer.signal = Signal.NO_SIGNAL
    page.until(f"{STATE} === 'NO SIGNAL' && {GREYED.format('video')}")
    writer.signal = Signal.LIVE
    page.until(f"{STATE} === 'LIVE' && !{GREYED.format('video')}")
    writer.paused = True  # the pipeline hangs, and says nothing
    page.until(f"{STATE} === 'STALLED' && {GREYED.format('video')}")
    writer.paused = False
    writer.size = (240, 320)  # the source has changed its resolution
    page.until(f"{STATE} === 'LIVE' && !{GREYED.format('video')} && video.videoWidth === 320")
    assert page.run(CARRIER) == "WebRTC"


def test_the_program_comes_back(
    page: Chromium, everywhere: Callable[..., WebServer], writer: Writer
) -> None:
    server = everywhere()
    page.open(url(server))
    page.until(f"{CARRIER} === 'WebRTC'")
    server.__exit__(None, None, None)
    assert not [t for t in threading.enumerate() if t.name == "web"]
    page.until(f"{STATE} === 'RECONNECTING' && {GREYED.format('picture')}")
    everywhere(port=server.port)
    page.until(f"{STATE} === 'LIVE' && {CARRIER} === 'WebRTC'")


@pytest.mark.parametrize("reason", ["no aiortc", "too many", "not wanted", "this machine alone"])
def test_without_webrtc_the_page_works(
    reason: str,
    page: Chromium,
    serve: Callable[..., WebServer],
    writer: Writer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options: dict[str, object] = {"host": "0.0.0.0", "insecure_plain_http": True}
    if reason == "no aiortc":
        monkeypatch.setitem(sys.modules, "aiortc", None)  # importing it fails from now on
        monkeypatch.delitem(sys.modules, "rwkv_edge.web.webrtc", raising=False)
    elif reason == "too many":
        options["max_peers"] = 0
    elif reason == "not wanted":
        options["webrtc"] = False
    else:
        options = {}
    page.open(url(serve(**options)))
    page.until(f"{CARRIER} === 'WebSocket' && {STATE} === 'LIVE'")
    page.until(f"!{GREYED.format('picture')} && document.getElementById('picture').width === 161")
    assert page.run("document.getElementById('video').hidden") or reason == "too many"
    assert page.problems == []


def make_offer(kind: str = "video") -> str:
    """What a viewer offers, addresses and all."""
    from aiortc import RTCConfiguration, RTCPeerConnection

    async def make() -> str:
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        connection.addTransceiver(kind, direction="recvonly")
        await connection.setLocalDescription(await connection.createOffer())
        sdp = str(connection.localDescription.sdp)
        await connection.close()
        return sdp

    return asyncio.run(make())


def ask(viewer: ClientConnection, offer: str) -> str:
    """Send an offer, return the answer; what comes meanwhile is acknowledged."""
    viewer.send(offer)
    while not isinstance(words := viewer.recv(timeout=10), str):
        viewer.send("shown")
    return words


def test_nobody_else_is_asked_for_an_address(
    everywhere: Callable[..., WebServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a STUN server for ours nor the network for the viewer's."""
    server, offer = everywhere(), make_offer()
    hidden = "a=candidate:9 1 udp 9 0a-1b.local 9 typ host\r\n"  # as browsers hide their own
    offer = offer.replace("a=candidate", f"{hidden}a=candidate", 1)
    assert hidden in offer
    asked: list[object] = []
    for name in ("socket.gethostbyname", "aioice.mdns.create_mdns_protocol"):
        monkeypatch.setattr(name, lambda *words: asked.append(words))
    with watch(server) as viewer:
        answer = ask(viewer, offer)
    assert {line.split("typ ")[1] for line in answer.splitlines() if "candidate:" in line} == {
        "host"
    }
    assert asked == []


@pytest.mark.parametrize(
    "offer", ["v=0", "v=0\r\nm=video x\r\n" + "a=\x7f\r\n" * 99, "audio", "two"]
)
def test_what_is_no_offer_of_one_video_is_refused(
    offer: str, everywhere: Callable[..., WebServer]
) -> None:
    if offer == "audio":
        offer = make_offer("audio")
    elif offer == "two":
        offer = make_offer()
        offer += offer[offer.index("m=video") :]
    with watch(everywhere()) as viewer:
        for _ in range(2):
            assert ask(viewer, offer) == ""
        assert ask(viewer, make_offer()).startswith("v=0")  # the place was not used up


def test_no_more_encoders_than_allowed(everywhere: Callable[..., WebServer]) -> None:
    server, offer = everywhere(max_peers=1), make_offer()
    with watch(server) as second:
        with watch(server) as first:
            assert ask(first, offer)
            assert ask(first, offer)  # in place of its own
            assert ask(second, offer) == ""
        end = time.monotonic() + 20  # the first is gone, and its place is free
        while not ask(second, offer):
            assert time.monotonic() < end


def test_a_slow_encoder_gets_the_newest_frame(sink: WebSink, controls: Controls) -> None:
    pytest.importorskip("aiortc", reason="no aiortc: WebRTC is not tried")
    from rwkv_edge.web.webrtc import Picture

    async def shades() -> list[float]:
        broadcast = Broadcast(sink, controls, 1)
        encoder = asyncio.create_task(broadcast.run())
        picture, seen = Picture(broadcast), []
        with broadcast.watching():
            for newest in (50, 150):
                for shade in (200, 220, newest):
                    number = sink.newest()[0] + 1
                    sink.write(live_frame(shade=shade))
                    await broadcast.newer(number - 1, 10)
                frame = await picture.recv()
                seen.append(float(frame.to_ndarray(format="bgr24").mean()))
        encoder.cancel()
        return seen

    assert np.allclose(asyncio.run(shades()), (50, 150), atol=6)
