"""`rwkv-edge serve` is `stream --web --headless`; the page that it serves: test_stream_web.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer.main

from rwkv_edge.cli import main
from rwkv_edge.cli.app import app
from tests.cli.test_cli import fails


def options_of(command: str) -> dict[str, list[str]]:
    group = typer.main.get_command(app)
    parameters = group.commands[command].params  # type: ignore[attr-defined]
    return {parameter.name: [*parameter.opts, str(parameter.default)] for parameter in parameters}


def test_the_options_are_those_of_stream() -> None:
    shared = options_of("stream")
    del shared["web"], shared["headless"]
    assert options_of("serve") == shared


def test_what_is_wrong_is_refused_as_by_stream(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert fails(capsys, "serve") == (
        2,
        "error: Missing option '--source'; see rwkv-edge serve --help",
    )
    code, line = fails(capsys, "serve", "--source", "x.mp4", "--conf", "2")
    assert (code, line) == (2, "error: --conf 2: it must lie between 0 and 1")
    code, line = fails(capsys, "serve", "--source", "x.mp4", "--host", "0.0.0.0")
    assert code == 2
    assert "--insecure-plain-http" in line
    missing = tmp_path / "none.mp4"
    with pytest.raises(SystemExit) as caught:
        main(["serve", "--source", str(missing), "--port", "0"])
    assert caught.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()  # no page was announced
    assert f"no such source: {missing}" in line
