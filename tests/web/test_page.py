"""The page in a real browser, on rendered frames segmented by the shipped network."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from importlib import resources

import httpx
import pytest

from rwkv_edge.preprocess import UInt8Array
from rwkv_edge.video.live import Controls, Signal
from rwkv_edge.web.hub import WebSink
from rwkv_edge.web.server import WebServer
from tests.web.chromium import BROWSER, Chromium, wait_for
from tests.web.conftest import live_frame
from tests.web.feed import Feed, rendered

pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium: the live page is not tried (apt install chromium)"
)
STATE = "document.getElementById('state').textContent"
GREYED = "getComputedStyle(document.getElementById('picture')).filter.includes('grayscale')"
BRIGHT = """(() => {
  const canvas = document.getElementById('picture');
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  return data.some((value, index) => index % 4 === 0 && value > 60) && canvas.width;
})()"""


@pytest.fixture(scope="module")
def clip() -> list[UInt8Array]:
    return rendered(6, (144, 192))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def page(browser: Chromium) -> Iterator[Chromium]:
    """The browser at a desk's size; whatever the page complains of fails the test."""
    browser.problems.clear()
    browser.size(1280, 800)
    yield browser
    browser.open("about:blank")


@pytest.fixture
def feed(sink: WebSink, controls: Controls, clip: list[UInt8Array]) -> Iterator[Feed]:
    with Feed(sink, controls, clip, remember=True) as feed:
        yield feed


def is_state(name: str) -> str:
    return f"{STATE} === '{name}'"


def test_the_picture_lives_and_the_controls_work(
    page: Chromium, server: WebServer, feed: Feed, controls: Controls, sink: WebSink
) -> None:
    page.open(server.url)
    page.until(is_state("LIVE"))
    assert page.run("location.search") == ""  # the token has left the address bar
    assert page.until(BRIGHT) >= 192
    page.until(f"{is_state('LIVE')} && !{GREYED}")  # at one and the same moment
    page.until("Number(document.getElementById('age').textContent) > 0")
    page.until("document.getElementById('events').textContent.includes('signal: LIVE')")
    assert page.run("document.body.innerText.includes('Research use only, not for diagnosis')")

    page.run("""(() => { const slider = document.getElementById('confidence');
      slider.value = 0.8; slider.dispatchEvent(new Event('input')); })()""")
    wait_for(lambda: controls.view.confidence == 0.8, "the threshold", 10)
    page.key("-")
    wait_for(lambda: controls.view.confidence == 0.75, "the key", 10)
    page.key("c")
    wait_for(lambda: not controls.view.contour, "the contour", 10)
    controls.update(fill=0.9)  # by another viewer
    page.until("document.getElementById('fill').value === '0.9'")

    page.key("f")
    page.until(f"{is_state('FROZEN')} && !{GREYED}")  # held on purpose, and said so
    assert controls.view.frozen
    page.key("f")
    page.until(is_state("LIVE"))

    page.key("r")
    page.until("!document.getElementById('recording').hidden")
    page.until("document.getElementById('events').textContent.includes('recording started')")
    page.until("!document.getElementById('snapshot').disabled")
    page.run("document.getElementById('snapshot').click()")
    page.until("document.getElementById('note').textContent.startsWith('saved rwkv-edge-')")
    page.key("?")
    page.until("document.getElementById('help').open")
    page.key("f")  # not while the list of keys is read
    assert not controls.view.frozen
    assert page.problems == []


def test_an_old_picture_is_never_shown_as_new(
    page: Chromium, server: WebServer, feed: Feed
) -> None:
    page.open(server.url)
    page.until(is_state("LIVE"))
    feed.signal = Signal.RECONNECTING
    page.until(is_state("RECONNECTING"))
    assert page.run(GREYED)
    feed.signal = Signal.NO_SIGNAL
    page.until(is_state("NO SIGNAL"))
    assert page.run(GREYED)
    assert page.run("document.getElementById('snapshot').disabled")
    assert page.run("document.getElementById('confidence-now').textContent") == "–"
    feed.signal = Signal.LIVE
    page.until(is_state("LIVE"))
    page.until(f"!{GREYED}")
    feed.paused = True  # the pipeline hangs, and says nothing
    page.until(is_state("STALLED"))
    assert page.run(GREYED)
    silence = "document.getElementById('silence').textContent"
    page.until(f"/No new picture for ([2-9]|\\d\\d+) s/.test({silence})")
    feed.paused = False
    page.until(is_state("LIVE"))


def test_a_picture_without_a_mask_says_so(page: Chromium, server: WebServer, sink: WebSink) -> None:
    """The network is slower than a mask may be old; before that, there is no source at all."""
    sink.can_record = False
    page.open(server.url)
    page.until(is_state("NO SIGNAL"))
    sink.write(live_frame(Signal.RECONNECTING, result=False, age=0))  # a notice, drawn just now
    page.until(is_state("RECONNECTING"))
    assert page.run("document.getElementById('silence').textContent") == "No picture yet"
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(0.05):
            sink.write(live_frame(result=False))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        page.until(is_state("LIVE"))
        page.until("document.getElementById('detail').textContent.startsWith('without a mask')")
        page.until(f"!{GREYED}")
        assert page.run("document.getElementById('record').disabled")
        assert page.run("document.getElementById('confidence-now').textContent") == "–"
    finally:
        stop.set()
        writer.join()


def test_the_page_notices_by_itself_that_the_program_is_away(
    page: Chromium, serve: Callable[..., WebServer], feed: Feed
) -> None:
    server = serve()
    page.open(server.url)
    page.until(is_state("LIVE"))
    server.__exit__(None, None, None)
    page.until(is_state("RECONNECTING"))
    assert page.run(GREYED)
    assert "has not answered" in page.run("document.getElementById('detail').textContent")
    assert page.run("document.getElementById('confidence').disabled")
    serve(port=server.port)  # it is back, with the same token
    page.until(is_state("LIVE"))
    page.until(f"!{GREYED}")


def test_a_new_token_is_asked_for(
    page: Chromium, serve: Callable[..., WebServer], feed: Feed
) -> None:
    server = serve()
    page.open(server.url)
    page.until(is_state("LIVE"))
    server.__exit__(None, None, None)
    serve(port=server.port, token="another-token-for-the-tests")
    page.until(is_state("NO ACCESS"))
    assert page.run(GREYED)


def test_mjpeg_where_websockets_do_not_get_through(
    page: Chromium, server: WebServer, feed: Feed
) -> None:
    script = "delete window.WebSocket"
    added = page.call("Page.addScriptToEvaluateOnNewDocument", source=script)
    try:
        page.open(server.url)
        page.until(is_state("LIVE"))
        page.until("document.getElementById('mjpeg').naturalWidth >= 192")
        feed.paused = True
        page.until(is_state("STALLED"))
        assert page.run(GREYED.replace("picture", "mjpeg"))
    finally:
        page.call("Page.removeScriptToEvaluateOnNewDocument", identifier=added["identifier"])


@pytest.mark.parametrize(("width", "height"), [(320, 568), (390, 844), (844, 390), (768, 1024)])
def test_a_phone_scrolls_down_only(
    page: Chromium, server: WebServer, feed: Feed, width: int, height: int
) -> None:
    page.size(width, height, mobile=True)
    page.open(server.url)
    page.until(is_state("LIVE"))
    assert page.run("document.documentElement.scrollWidth") <= width
    too_small = """[...document.querySelectorAll('#side section button')]
      .filter((b) => b.getBoundingClientRect().height < 44 || b.scrollWidth > b.clientWidth)
      .map((b) => b.id)"""
    assert page.run(too_small) == []
    page.run("scrollTo(0, 9999)")
    shown = """(() => { const box = document.querySelector('figcaption').getBoundingClientRect();
      return box.top >= 0 && box.bottom <= innerHeight && box.height > 0; })()"""
    assert page.run(shown)  # the notice stays, wherever one has scrolled to
    assert page.run("document.getElementById('banner').getBoundingClientRect().top") == 0


def test_everything_has_a_name(page: Chromium, server: WebServer, feed: Feed) -> None:
    page.open(server.url)
    page.until(is_state("LIVE"))
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = ("button", "slider", "image", "img", "list", "dialog", "textbox", "link")
    for node in nodes:
        role = node.get("role", {}).get("value")
        if role in roles and not node["ignored"]:
            assert node["name"]["value"].strip(), node
    sliders = [node["name"]["value"] for node in nodes if node["role"]["value"] == "slider"]
    assert sliders == ["Threshold", "Fill"]


def test_the_page_loads_nothing_from_elsewhere(client: httpx.Client) -> None:
    files = {path.name for path in resources.files("rwkv_edge.web").joinpath("static").iterdir()}
    for name in sorted(files - {"icon.svg"}):  # whose name space is an address
        answer = client.get("/" if name == "index.html" else f"/{name}")
        assert answer.status_code == 200
        assert "//" not in answer.text.replace("://${location.host}", "").replace("// ", "")
        assert set(re.findall(r'"\.?/(\w+\.(?:js|css|svg))"', answer.text)) <= files
    page = client.get("/").text
    assert "style=" not in page  # the content security policy would drop it
