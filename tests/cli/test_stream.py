"""Options of `rwkv-edge stream`, and what is refused at once. The stream itself: tests/faults."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import pytest

from rwkv_edge.cli import main
from tests.cli.test_cli import fails
from tests.faults.processes import write_cheap_model
from tests.video.clips import numbered, read_clip, write_clip
from tests.video.test_field_of_view import drawn, picture, sharpest_edge

STREAM = ("stream", "--headless", "--source")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("x.mp4", "--conf", "2"), "--conf 2: it must lie between 0 and 1"),
        (("x.mp4", "--smoothing", "1"), "--smoothing 1: it must lie between 0 and 0.95"),
        (("x.mp4", "--fps", "0"), "--fps 0"),
        (("x.mp4", "--max-seconds", "0"), "--max-seconds 0: it must be above 0"),
        (("x.mp4", "--hysteresis", "nan"), "--hysteresis nan: it must lie between 0 and 0.5"),
        (("x.mp4", "--record-clean"), "does nothing without --record: add it"),
        (("x.mp4", "--record-file-mb", "0"), "--record-file-mb 0: it must be above 0"),
        (("x.mp4", "--record-free-mb", "-1"), "--record-free-mb -1: it must be 0 or more"),
        (("x.mp4", "--backend", "abacus"), "choose one of auto"),
        (("x.mp4", "--rtsp-transport", "pigeon"), "choose one of tcp, udp"),
        (("gopher://me:sesame@box",), "gopher:// is none of"),
        (("x.mp4", "--model", "m.engine", "--allow-cpu-fallback"), "runs on its GPU alone"),
        (("rtsp://box/x", "--credentials", "none"), "No such file"),
        (("x.mp4", "--output-credentials", "c"), "does nothing without --output-rtsp"),
        (("x.mp4", "--host", "0.0.0.0"), "--host does nothing without --web"),
        (("x.mp4", "--token-file", "t"), "--token-file does nothing without --web"),
        (("x.mp4", "--config", "none.toml"), "No such file"),
        (("x.mp4", "--summary", "."), "--summary .: is a folder"),
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
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.match(r"error: .*short.mkv: \d+ of about 25 frames could be read", error), error


@pytest.mark.parametrize("outside", ["show", "blur", "black", "crop"])
def test_what_is_recorded_of_the_name_beside_the_view(outside: str, tmp_path: Path) -> None:
    """Names of patients are read where a processor writes them, and nowhere in the recordings."""
    image = picture(drawn("circle"))
    cv2.putText(image, "DOE", (8, 300), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (255, 255, 255), 2)
    image[200:240, 300:340] = 230
    clip = write_clip(tmp_path / "clip.mkv", [image] * 20, codec="ffv1", pix_fmt="bgr0")
    model, lines = write_cheap_model(tmp_path / "cheap.onnx"), tmp_path / "lines.jsonl"
    words = [*STREAM, str(clip), "--model", str(model), "--backend", "onnxruntime"]
    words += ["--outside", outside, "--json", str(lines)]
    words += ["--record", str(tmp_path / "videos"), "--record-clean", "--record-free-mb", "1"]
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 0
    results = [json.loads(line)["result"] for line in lines.read_text().splitlines()]
    ((left, top, width, height),) = (c["box"] for c in [r for r in results if r][-1]["components"])
    seen = set()
    for path in (tmp_path / "videos").iterdir():
        last, kind = read_clip(path)[-1][1], path.stem.split("-")[1]
        if not last[:, 330:].mean() > 30:
            assert outside == "crop"  # black, until the field of view was found
            continue
        seen.add(kind)
        assert last[top : top + height, left : left + width].mean() > 100  # the polyp is in its box
        if outside == "crop":
            assert max(last.shape) < 460
            assert kind == "overlay" or last[:40, :40].max() < 16  # the corners, too
            continue
        assert last.shape[:2] == (480, 640)
        beside = last[(20 if kind == "clean" else 120) : 400, :120]  # the head stands above
        edge = sharpest_edge(beside)
        assert edge > 150 if outside == "show" else edge < 16
    assert seen == {"clean", "overlay"}
