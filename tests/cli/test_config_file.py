from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from rwkv_edge.cli.app import app
from rwkv_edge.errors import UsageError

pytest.importorskip("tomllib", reason="--config needs Python 3.11, or tomli")


def read(tmp_path: Path, *lines: str, words: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the options that `rwkv-edge stream` takes from these lines."""
    file = tmp_path / "options.toml"
    file.write_text("\n".join(("source = '0'", *lines)))
    stream = get_command(app).commands["stream"]  # type: ignore[attr-defined]
    with stream.make_context("stream", ["--config", str(file), *words]) as context:
        return dict(context.params)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("no-crop-fov = true", False),
        ("no_crop_fov = true", False),
        ("no-crop-fov = false", True),
        ("crop-fov = false", False),
        ("crop_fov = true", True),
    ],
)
def test_both_forms_of_a_switch(line: str, expected: bool, tmp_path: Path) -> None:
    assert read(tmp_path, line)["crop_fov"] is expected


def test_the_command_line_wins(tmp_path: Path) -> None:
    options = read(tmp_path, "no-crop-fov = true", "port = 1", words=("--crop-fov", "--port", "2"))
    assert (options["crop_fov"], options["port"]) == (True, 2)


def test_what_may_be_repeated_is_a_list(tmp_path: Path) -> None:
    options = read(tmp_path, "allow-host = ['a.example', 'b.example']")
    assert list(options["allow_host"]) == ["a.example", "b.example"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("zoom = 2",), "no option 'zoom'; there are "),
        (("allow-host = 'a.example'",), "'allow-host' must be a list"),
        (("port = [1]",), "'port' must be a single value"),
        (("no-webrtc = 'yes'",), "'no-webrtc' must be true or false"),
        (("webrtc = true", "no-webrtc = true"), "'no-webrtc' is given twice"),
        (("port 1",), "not TOML"),
        (("conf = 2",), "--conf 2: it must lie between 0 and 1"),
        (("hysteresis = nan",), "--hysteresis nan: it must lie between 0 and 0.5"),
        (("backend = 'abacus'",), "--backend abacus: choose one of auto"),
    ],
)
def test_what_is_refused(lines: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        read(tmp_path, *lines)
