from __future__ import annotations

from pathlib import Path

import pytest

from rwkv_edge.errors import CheckpointError
from rwkv_edge.training import TrainSettings


def test_learning_rate_warms_up_and_falls_to_its_floor() -> None:
    settings = TrainSettings(Path("d"), lr=1.0, warmup_share=0.1, final_lr_share=0.1)
    assert settings.learning_rate(0) == pytest.approx(0.01)
    assert settings.learning_rate(0.1) == pytest.approx(1.0)
    assert settings.learning_rate(0.55) == pytest.approx(0.55)
    assert settings.learning_rate(1.0) == pytest.approx(0.1)
    rates = [settings.learning_rate(e / 80) for e in range(8, 81)]
    assert rates == sorted(rates, reverse=True)


def test_progressive_sizes_grow_to_the_full_one() -> None:
    settings = TrainSettings(Path("d"), imgsz=256, progressive=True)
    sizes = [settings.image_size(epoch / 20) for epoch in range(20)]
    assert sizes == [128] * 10 + [192] * 7 + [256] * 3
    small = TrainSettings(Path("d"), imgsz=48, progressive=True)
    assert all(small.image_size(share / 100) % 16 == 0 for share in range(100))


def test_saved_settings_load_again(tmp_path: Path) -> None:
    settings = TrainSettings(
        Path("/d"),
        extra=(Path("/e"),),
        without=("paste",),
        init=Path("/w"),
        seed=7,
        amp=True,
        teachers=("tiny", "/t.onnx"),
        teacher_preprocess="rgb",
        teacher_share=0.3,
    )
    settings.save(tmp_path / "args.yaml")
    assert TrainSettings.load(tmp_path / "args.yaml") == settings


@pytest.mark.parametrize(
    "content", ["", "variant: tiny", "{", "data: d\nextra: []\ninit: null\nx: 1"]
)
def test_foreign_settings(tmp_path: Path, content: str) -> None:
    (tmp_path / "args.yaml").write_text(content)
    with pytest.raises(CheckpointError, match="holds no settings"):
        TrainSettings.load(tmp_path / "args.yaml")
