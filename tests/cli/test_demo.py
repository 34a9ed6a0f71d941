from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from rwkv_edge.cli import main
from rwkv_edge.data.synth import render_clip
from rwkv_edge.metrics import PixelCounts
from tests.video.clips import read_clip


def rwkv_edge(*words: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([*map(str, words)])
    return int(caught.value.code or 0)


def test_demo(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert rwkv_edge("demo", "--output", "show", "--seconds", 0.2, "--seed", 3) == 0
    printed = capsys.readouterr().out
    for name in ("clip.mp4", "overlay.mp4", "contact_sheet.png", "summary.json"):
        assert Path("show", name).is_file()
        assert f"show/{name}" in printed
    assert "rwkv-edge run --source show/clip.mp4" in printed

    clip, overlay = read_clip(Path("show/clip.mp4")), read_clip(Path("show/overlay.mp4"))
    assert len(clip) == len(overlay) == 3
    assert [time_s for time_s, _ in overlay] == pytest.approx([time_s for time_s, _ in clip])
    assert cv2.imread("show/contact_sheet.png").shape[1] == 4 * 320

    # the Dice is what `run` and the generator's own masks give
    assert rwkv_edge("run", "--source", "show/clip.mp4", "--save-masks", "--output", "again") == 0
    dice = []
    for index, frame in enumerate(render_clip(3, 3, (480, 640), 15, polyps=1)):
        mask = cv2.imread(f"again/masks/{index:06d}.png", cv2.IMREAD_UNCHANGED)
        dice.append(PixelCounts.of(mask > 0, frame.mask > 0).dice)
    summary = json.loads(Path("show/summary.json").read_text())
    assert summary["dice"]["frames_with_polyp"] == summary["frames"] == 3
    assert summary["dice"]["mean"] == pytest.approx(np.mean(dice), abs=1e-3)
    assert f"{summary['dice']['mean']:.3f}" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seconds", "0"], "--seconds 0"),
        (["--seconds", "nan"], "--seconds nan"),
        (["--seed", "-1"], "--seed -1"),
        (["--backend", "abacus"], "--backend abacus"),
    ],
)
def test_wrong_values(
    words: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert rwkv_edge("demo", *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {message}")
    assert list(tmp_path.iterdir()) == []


def test_unwritable_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert rwkv_edge("demo", "--output", tmp_path / "file" / "demo") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: cannot write into")
