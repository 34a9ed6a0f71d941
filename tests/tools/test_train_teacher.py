"""Without the encoder, which is a package of its own: what is asked for, and what is written."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from rwkv_edge.runtime.foreign import ForeignModel, Preprocess

SCRIPT = Path(__file__).parents[2] / "tools" / "train_teacher.py"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--imgsz", "100"], "--imgsz 100: give a multiple of 32"),
        (["--minutes", "nan"], "--minutes and --lr must be above 0"),
        (["--encoder", "3"], "invalid choice"),
    ],
)
def test_wrong_usage(
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--data", "none", *words])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_the_encoder_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--data", "none"])
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(SystemExit, match=r"pip install efficientnet_lite_pytorch==0\.1\.0"):
        runpy.run_path(str(SCRIPT), run_name="__main__")


def test_what_it_writes_can_teach_at_any_size(tmp_path: Path) -> None:
    """The exported file, as `rwkv-edge train --teacher` opens it, says what the network says."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 2, 3, 2, 1), nn.ReLU(), nn.Conv2d(2, 1, 1), nn.Upsample(scale_factor=2))
    network = nn.Sequential(*layers)
    path = tmp_path / "teacher.onnx"
    runpy.run_path(str(SCRIPT))["export"](network, path, 64)
    image = np.random.default_rng(0).integers(0, 256, (96, 32, 3), np.uint8)
    found = ForeignModel(path, Preprocess.parse("96x32"))(image)
    rgb = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)[None] / 255
    expected = network(rgb).sigmoid()[0].detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert list(tmp_path.iterdir()) == [path]
