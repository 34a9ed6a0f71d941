from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from rwkv_edge.drawing import put_text
from rwkv_edge.errors import OutputError
from rwkv_edge.preprocess import Component
from rwkv_edge.video import Frame, Result
from rwkv_edge.video.sink import (
    JsonLines,
    MaskSink,
    OverlaySink,
    VideoSink,
    WindowSink,
)
from tests.video.clips import read_clip

STAGES = ("capture", "preprocess", "inference", "postprocess", "draw", "write")


def make_result(label: int = 1, names: tuple[str, ...] = ("polyp",), valid: bool = True) -> Result:
    image = np.full((32, 48, 3), 90, np.uint8)
    mask = np.zeros((32, 48), np.uint8)
    mask[4:14, 6:26] = label
    return Result(
        frame=Frame(3, 0.12, image, "three"),
        mask=mask,
        components=[Component(label, 200, (6, 4, 20, 10), 0.87654321)],
        names=names,
        valid=valid,
        latency_ms=dict.fromkeys(STAGES, 1.23456),
        overlay=image,
    )


def test_binary_mask_is_black_and_white(tmp_path: Path) -> None:
    with MaskSink(tmp_path / "masks") as sink:
        sink.write(make_result())
    mask = cv2.imread(str(tmp_path / "masks" / "three.png"), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (32, 48)
    assert mask[8, 8] == 255
    assert set(np.unique(mask)) == {0, 255}


def test_mask_of_several_classes_holds_indices(tmp_path: Path) -> None:
    with MaskSink(tmp_path) as sink:
        sink.write(make_result(label=2, names=("polyp", "instrument")))
    mask = cv2.imread(str(tmp_path / "three.png"), cv2.IMREAD_UNCHANGED)
    assert set(np.unique(mask)) == {0, 2}


def test_invalid_output_leaves_no_mask(tmp_path: Path) -> None:
    with MaskSink(tmp_path) as sink:
        sink.write(make_result(valid=False))
    assert list(tmp_path.iterdir()) == []


def test_overlay_is_called_like_its_image(tmp_path: Path) -> None:
    with OverlaySink(tmp_path / "overlays") as sink:
        sink.write(make_result())
    assert cv2.imread(str(tmp_path / "overlays" / "three.jpg")).shape == (32, 48, 3)


def test_video(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "overlay.mp4", fps=25) as sink:
        sink.write(make_result())
    assert len(read_clip(tmp_path / "overlay.mp4")) == 1


def test_a_json_line(tmp_path: Path) -> None:
    path = tmp_path / "new" / "frames.jsonl"
    with JsonLines(str(path)) as sink:
        sink.write(make_result())
        early = path.read_text()  # a reader sees it before the run ends
        sink.write(make_result())
    assert len(path.read_text().splitlines()) == 2
    line = json.loads(early)
    assert line == {
        "frame": 3,
        "name": "three",
        "time_s": 0.12,
        "valid": True,
        "latency_ms": dict.fromkeys(STAGES, 1.235),
        "components": [
            {"class": "polyp", "area": 200, "box": [6, 4, 20, 10], "confidence": 0.8765}
        ],
    }


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    """Python reads it with surrogates, which no stream takes and at which OpenCV 5 crashes."""
    name = b"\xe9.png".decode("utf-8", "surrogateescape")
    result = make_result()
    result = replace(result, frame=replace(result.frame, name=name))
    with JsonLines(str(tmp_path / "frames.jsonl")) as sink:
        sink.write(result)
    assert json.loads((tmp_path / "frames.jsonl").read_text())["name"] == name
    picture = np.zeros((40, 200, 3), np.uint8)
    put_text(picture, name, 5, 30)
    assert picture.any()


def test_second_class_has_its_name() -> None:
    line = make_result(label=2, names=("polyp", "instrument")).as_dict()
    assert line["components"][0]["class"] == "instrument"


def test_json_on_a_full_disk() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full, which is Linux")
    sink = JsonLines("/dev/full")
    for attempt in (lambda: sink.write(make_result()), sink.close):
        with pytest.raises(OutputError, match="No space left"):
            attempt()


def test_json_into_a_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="directory"):
        JsonLines(str(tmp_path))


@pytest.mark.parametrize("sink", [OverlaySink, MaskSink])
def test_unwritable_folder(sink: type[OverlaySink | MaskSink], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="Not a directory"):
        sink(tmp_path / "file" / "masks")


@pytest.mark.parametrize(
    ("keys", "visible", "stopped"),
    [
        ([-1], 1, False),
        ([ord("q")], 1, True),
        ([27], 1, True),
        ([ord("x")], 1, False),
        ([-1], 0, True),
    ],
)
def test_window_keys(
    keys: list[int], visible: int, stopped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    window_without_a_display(monkeypatch, keys, visible)
    sink = WindowSink()
    sink.write(make_result())
    assert sink.stopped is stopped


def test_still_image_waits_for_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [-1, -1, -1, ord(" ")]
    window_without_a_display(monkeypatch, keys, visible=1)
    sink = WindowSink(still=True)
    sink.write(make_result())
    assert keys == []
    assert sink.stopped is False


def window_without_a_display(
    monkeypatch: pytest.MonkeyPatch, keys: list[int], visible: int
) -> None:
    monkeypatch.setattr("rwkv_edge.video.window.check_display", lambda: None)
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "resizeWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "imshow", lambda *_: None)
    monkeypatch.setattr(cv2, "waitKey", lambda _: keys.pop(0))
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: visible)
