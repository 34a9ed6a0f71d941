"""Options of `rwkv-edge stream`, and what is refused at once. The stream itself: tests/faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from rwkv_edge.cli import main
from tests.cli.test_cli import fails
from tests.faults.processes import write_cheap_model
from tests.video.clips import numbered, write_clip

STREAM = ("stream", "--headless", "--source")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("x.mp4", "--conf", "2"), "--conf 2: it must lie between 0 and 1"),
        (("x.mp4", "--smoothing", "1"), "--smoothing 1: it must lie between 0 and 0.95"),
        (("x.mp4", "--fps", "0"), "--fps 0"),
        (("x.mp4", "--max-seconds", "0"), "--max-seconds 0: it must be above 0"),
        (("x.mp4", "--record-clean"), "give --record FOLDER"),
        (("x.mp4", "--record", "r", "--record-file-mb", "0"), "must be above 0"),
        (("x.mp4", "--backend", "abacus"), "choose one of auto"),
        (("x.mp4", "--rtsp-transport", "pigeon"), "choose one of tcp, udp"),
        (("gopher://me:sesame@box",), "gopher:// is none of"),
        (("x.mp4", "--model", "m.engine", "--allow-cpu-fallback"), "runs on its GPU alone"),
        (("rtsp://box/x", "--credentials", "none"), "No such file"),
        (("x.mp4", "--config", "none.toml"), "No such file"),
        (("x.mp4", "--output-rtsp", "http://me:sesame@box/x"), "give rtsp://HOST:PORT/PATH"),
        (("x.mp4", "--output-rtsp", "rtsp://b/x", "--output-credentials", "none"), "No such file"),
    ],
)
def test_wrong_values(
    words: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, line = fails(capsys, *STREAM, *words)
    assert code == 2
    assert message in line
    assert "sesame" not in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("none.mp4", "no such source: none.mp4"),
        ("file:///none.mp4", "no such source: /none.mp4"),
        ("v4l2:///dev/none", "camera /dev/none cannot be opened"),
        ("empty.mp4", "the file is empty"),
        ("noise.mp4", "not a video that can be read"),
        ("notes.mp4", "not a video"),
    ],
)
def test_sources_that_are_none(
    source: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "noise.mp4").write_bytes(bytes(range(256)) * 99)
    (tmp_path / "notes.mp4").write_text("remember the milk\n" * 99)
    code, line = fails(capsys, *STREAM, source)
    assert code == 1
    assert message in line


def test_a_window_needs_a_display(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    code, line = fails(capsys, "stream", "--source", "x.mp4")
    assert code == 1
    assert "--headless" in line


def test_a_truncated_file_is_played_and_reported(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    short = tmp_path / "short.mkv"
    write_clip(short, numbered(25))
    short.write_bytes(short.read_bytes()[: short.stat().st_size * 2 // 3])
    model = write_cheap_model(tmp_path / "cheap.onnx")
    words = [*STREAM, str(short), "--model", str(model), "--backend", "onnxruntime"]
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 1
    assert "the file may be truncated" in capsys.readouterr().out
