from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import httpx
import pytest

from rwkv_edge.cli.live_page import live_page
from rwkv_edge.errors import MissingDependencyError, UsageError
from rwkv_edge.video.live import Controls
from rwkv_edge.web.options import WebOptions, read_token
from tests.web.conftest import live_frame


def test_the_page_runs_while_the_block_does(capsys: pytest.CaptureFixture[str]) -> None:
    with live_page(Controls(), WebOptions(port=0)) as (sink, announce):
        assert capsys.readouterr().err == ""  # nobody is sent to a page that has nothing to show
        announce()
        printed = capsys.readouterr()
        assert printed.out == ""  # which may be a pipe of JSON lines
        assert "research use only" in printed.err
        url = re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", printed.err)
        assert url is not None
        sink.write(live_frame())
        with httpx.Client(follow_redirects=True) as client:
            assert "rwkv-edge" in client.get(url.group()).text
            assert client.get(httpx.URL(url.group()).join("/status")).json()["signal"] == "LIVE"
    with pytest.raises(httpx.TransportError):
        httpx.get(url.group())


def test_a_token_from_a_file_is_not_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = "kept-in-a-file-0123456789"
    (tmp_path / "token").write_text(f"{token}\n")
    options = WebOptions(port=0, token=read_token(tmp_path / "token"))
    with live_page(Controls(), options) as (_, announce):
        announce()
        printed = capsys.readouterr().err
        assert token not in printed
        origin = re.search(r"http://[\d.:]+", printed)
        assert origin is not None
        bearer = {"Authorization": f"Bearer {token}"}
        assert httpx.get(f"{origin.group()}/metrics", headers=bearer).status_code == 200


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), ("", "one line"), ("a b", "one line"), ("ü" * 20, "ASCII"),
     ("short", "16 characters")],
)  # fmt: skip
def test_bad_token_files(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        WebOptions(token=read_token(path)).check()


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == "uvicorn" else find(n, *a)
    )
    with pytest.raises(MissingDependencyError, match=r"rwkv-edge\[web\]"):
        live_page(Controls(), WebOptions()).__enter__()
