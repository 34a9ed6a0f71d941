from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rwkv_edge.cli import main
from rwkv_edge.errors import UsageError
from rwkv_edge.training import TrainSettings, train
from rwkv_edge.training.augment import SHARES
from rwkv_edge.training.losses import dice_bce_loss, to_planes
from rwkv_edge.training.teacher import teach


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(words))
    return int(caught.value.code or 0)


def constant(*values: float) -> Any:
    """A teacher that gives each plane the same probability everywhere."""
    planes = np.float32(values)[:, None, None]
    return lambda image: np.broadcast_to(planes, (len(values), *image.shape[:2]))


def test_labels_move_towards_the_mean_of_the_teachers() -> None:
    pixels = torch.zeros(3, 4, 5, 3, dtype=torch.uint8)
    labels = torch.zeros(3, 4, 5, dtype=torch.long)
    labels[0] = 1
    wanted = teach([constant(0.2), constant(0.6)], pixels, to_planes(labels, 1), 0.25)
    assert wanted.shape == (3, 1, 4, 5)
    assert wanted.dtype == torch.float32
    torch.testing.assert_close(wanted[0], torch.full((1, 4, 5), 0.75 + 0.25 * 0.4))
    torch.testing.assert_close(wanted[1:], torch.full((2, 1, 4, 5), 0.25 * 0.4))


def test_a_teacher_sees_the_picture_that_it_is_asked_about() -> None:
    pixels = torch.randint(0, 256, (2, 4, 6, 3), dtype=torch.uint8)

    def red(image: Any) -> Any:
        return np.float32(image[None, ..., 2]) / 255

    wanted = teach([red], pixels, torch.zeros(2, 1, 4, 6), 1.0)
    torch.testing.assert_close(wanted[:, 0], pixels[..., 2].float() / 255)


def test_a_teacher_of_other_classes(disc_data: Path, tmp_path: Path) -> None:
    settings = TrainSettings(disc_data, device="cpu", teachers=("a.onnx", "b.onnx"))
    message = "--teacher b.onnx: gives 3 classes, the data set has 1"
    with pytest.raises(UsageError, match=message):
        train(settings, tmp_path / "run", teachers=[constant(0.5), constant(0.5, 0.2, 0.3)])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("planes", [1, 3])
def test_the_loss_is_least_where_the_teacher_is(planes: int) -> None:
    labels = torch.zeros(1, 8, 8, dtype=torch.long)
    values = (0.7,) if planes == 1 else (0.2, 0.7, 0.1)
    pixels = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
    wanted = teach([constant(*values)], pixels, to_planes(labels, planes), 1.0)
    logits = torch.zeros(1, planes, 8, 8, requires_grad=True)
    optimizer = torch.optim.Adam([logits], 0.1)
    for _ in range(200):
        optimizer.zero_grad()
        dice_bce_loss(logits, wanted).backward()
        optimizer.step()
    found = torch.sigmoid(logits) if planes == 1 else torch.softmax(logits, 1)
    assert found.detach().mean((0, 2, 3)).tolist() == pytest.approx(values, abs=0.02)


def test_a_student_of_the_shipped_network(
    disc_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the command line; what a resumed run needs is kept."""
    monkeypatch.chdir(tmp_path)
    words = ["--data", str(disc_data), "--variant", "unet", "--imgsz", "32", "--device", "cpu"]
    words += ["--epochs", "1", "--teacher", "tiny", "--teacher-share", "0.25", "--light"]
    assert run("train", *words) == 0
    settings = TrainSettings.load(Path("runs/train/exp/args.yaml"))
    assert settings.teachers == ("tiny",)
    assert settings.teacher_share == 0.25
    assert set(SHARES) - set(settings.without) == {"flip", "affine", "colour", "cast"}


def test_teaching_changes_what_is_learnt(disc_data: Path, tmp_path: Path) -> None:
    settings = TrainSettings(disc_data, variant="unet", epochs=1, imgsz=32, batch=4, device="cpu")
    files = {}
    for name, teachers in (("alone", []), ("again", []), ("taught", [constant(0.5)])):
        names = ("constant",) * len(teachers)
        told = dataclasses.replace(settings, teachers=names)
        files[name] = train(told, tmp_path / name, teachers=teachers).read_bytes()
    assert files["alone"] == files["again"] != files["taught"]


def test_a_teacher_does_not_fit_into_a_cuda_graph(disc_data: Path, tmp_path: Path) -> None:
    settings = TrainSettings(disc_data, device="cpu", cuda_graph=True)
    with pytest.raises(UsageError, match="--cuda-graph cannot hold a teacher"):
        train(settings, tmp_path, teachers=[constant(0.5)])
