from __future__ import annotations

from pathlib import Path

import pytest

from rwkv_edge.errors import UsageError
from rwkv_edge.video.address import parse_network
from rwkv_edge.video.redact import redact


@pytest.mark.parametrize(
    "text",
    [
        "cannot open rtsp://user:sesame@box/live",
        "RTSP://user:sesame@box:554/live?x=1",
        "rtsp://user:p@sesame/x@box/live",
        "location=rtsp://sesame:sesame@box/live latency=0",
        "http://box/live?user=u&password=sesame",
        "http://box/live?access_token=sesame&x=1",
        "no such source: admin:sesame@10.0.0.1/live; give an image",
        "admin:s:e@sesame@box/live",
        'rtspsrc user-id="admin" user-pw="sesame"',
        "rtspsrc user-pw='open sesame' latency=0",
        'rtspsrc user-pw = "sesame"',
        'location="rtsp://admin:open sesame@cam/live"',
        'http://cam/cgi?password="sesame"',
        "rtsp://admin:my sesame@host:abc/live: not an address",
        "two: rtsp://a:sesame@b/c and http://d:sesame@e/f",
    ],
)
def test_no_credential_is_left(text: str) -> None:
    hidden = redact(text)
    assert "sesame" not in hidden
    assert "***" in hidden


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://box:8554/live?channel=1",
        "a plain line",
        "mail to me@example",
        "/a/b.mp4",
        "at 1:2 me@x",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_literal_secrets() -> None:
    assert redact("password sesame was refused", "sesame", "") == "password *** was refused"


def test_credentials_come_from_the_address_then_a_file_then_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text("filed\nse same\n")
    environment = {"RWKV_EDGE_RTSP_USER": "env", "RWKV_EDGE_RTSP_PASSWORD": "p@ss/w"}
    given = parse_network("rtsp://me:mine@box/live", file, environment)
    assert given.url == "rtsp://me:mine@box/live"
    assert parse_network("rtsp://box/live", file, environment).url == (
        "rtsp://filed:se%20same@box/live"
    )
    last = parse_network("rtsp://box:8554/live?x=1", None, environment)
    assert last.url == "rtsp://env:p%40ss%2Fw@box:8554/live?x=1"
    assert (last.host, last.port, last.shown) == ("box", 8554, "rtsp://box:8554/live?x=1")
    for address in (given, last):
        assert not {"mine", "p@ss", "p%40ss"} & set(repr(address).split("'"))
        assert "mine" not in repr(address)
        assert "p%40ss" not in repr(address)


@pytest.mark.parametrize("text", ["rtsp://", "rtsp://u:sesame@box:port/x", "rtsp://u:sesame@/x"])
def test_addresses_that_make_no_sense(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_network(text, None, {})
    assert "sesame" not in str(caught.value)


def test_a_file_of_credentials_needs_two_lines(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("user")
    with pytest.raises(UsageError, match="first line"):
        parse_network("rtsp://box/live", tmp_path / "one", {})
    with pytest.raises(UsageError, match="No such file"):
        parse_network("rtsp://box/live", tmp_path / "none", {})
