from __future__ import annotations

import csv
import dataclasses
import shutil
import time
from pathlib import Path

import cv2
import pytest
import torch
from safetensors import safe_open

from rwkv_edge.data.pairs import load_dataset
from rwkv_edge.errors import CheckpointError, DataError, UsageError
from rwkv_edge.models import load_model
from rwkv_edge.models.checkpoint import read_info
from rwkv_edge.training import TrainSettings, train
from rwkv_edge.training.loop import _warn_of_validation
from rwkv_edge.training.results import COLUMNS, Results


def settings(data: Path, **changes: object) -> TrainSettings:
    base = TrainSettings(data, epochs=2, imgsz=32, batch=4, warmup_share=0.25, seed=3)
    return dataclasses.replace(base, **changes)


@pytest.fixture(scope="module")
def finished(disc_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs, not interrupted."""
    folder = tmp_path_factory.mktemp("run")
    train(settings(disc_data), folder)
    return folder


def test_a_run_leaves_everything_it_promises(finished: Path) -> None:
    assert sorted(p.name for p in finished.iterdir()) == [
        "args.yaml",
        "curves.png",
        "results.csv",
        "training.png",
        "validation.png",
        "weights",
    ]
    with (finished / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(float(row["images_per_second"]) > 0 for row in rows)
    assert all(float(row["peak_mb"]) > 100 for row in rows)  # Torch alone takes that
    for name in ("curves.png", "training.png", "validation.png"):
        assert cv2.imread(str(finished / name)).std() > 0
    _, info = load_model(finished / "weights" / "best.safetensors")
    assert (info.variant, info.imgsz) == ("tiny", (32, 32))


def test_resuming_repeats_the_run_to_the_bit(
    finished: Path, disc_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(Exception): ...

    def kill(*args: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr("rwkv_edge.training.progress.Progress.epoch_done", kill)
        with pytest.raises(KilledError):
            train(settings(disc_data), tmp_path)
    train(settings(disc_data), tmp_path, resume=True)
    for name in ("best", "best-fp16", "last"):
        path = Path("weights") / f"{name}.safetensors"
        assert (tmp_path / path).read_bytes() == (finished / path).read_bytes(), name


def test_the_state_of_a_run_is_a_model(finished: Path) -> None:
    """The averaged weights of the last epoch."""
    path = finished / "weights/last.safetensors"
    network, info = load_model(path)
    assert info == read_info(finished / "weights/best.safetensors")
    with safe_open(path, framework="pt") as file:
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensor, file.get_tensor(f"average.{name}")), name


def test_a_resumed_unet_repeats_too(
    disc_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its kernels lie in memory in another order than in the file."""

    class KilledError(Exception): ...

    def kill(*args: object) -> None:
        raise KilledError

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    chosen = settings(disc_data, variant="unet")
    train(chosen, whole)
    with monkeypatch.context() as patch:
        patch.setattr("rwkv_edge.training.progress.Progress.epoch_done", kill)
        with pytest.raises(KilledError):
            train(chosen, broken)
    train(chosen, broken, resume=True)
    path = Path("weights/last.safetensors")
    assert (broken / path).read_bytes() == (whole / path).read_bytes()


def test_pictures_that_do_not_fit_are_streamed_to_the_same_bits(
    finished: Path, disc_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a file in the run's folder: a resumed run uses it again, a finished one removes it."""
    monkeypatch.setattr("rwkv_edge.training.pictures.available_bytes", lambda: 1 << 10)

    class KilledError(Exception): ...

    def kill(*args: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr("rwkv_edge.training.progress.Progress.epoch_done", kill)
        with pytest.raises(KilledError):
            train(settings(disc_data), tmp_path)
    sizes = sorted(path.stat().st_size for path in (tmp_path / "pictures").iterdir())
    assert sizes == [4 * 32 * 32 * 4, 12 * 32 * 32 * 4]
    with monkeypatch.context() as patch:
        patch.setattr("rwkv_edge.data.arrays.read_all", kill)
        train(settings(disc_data), tmp_path, resume=True)
    assert not (tmp_path / "pictures").exists()
    for name in ("best", "best-fp16", "last"):
        path = Path("weights") / f"{name}.safetensors"
        assert (tmp_path / path).read_bytes() == (finished / path).read_bytes(), name


def test_it_learns(disc_data: Path, tmp_path: Path) -> None:
    train(settings(disc_data, epochs=40, lr=3e-3, ema_decay=0.8), tmp_path)
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["train_loss"]) < 0.5 * float(rows[0]["train_loss"])
    assert float(rows[-1]["val_dice"]) > 0.7


class Clock:
    """A second passes whenever somebody looks; the speed is measured by another."""

    perf_counter = staticmethod(time.perf_counter)

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1.0
        return self.now


def read_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_minutes_instead_of_epochs(
    disc_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The schedules follow the clock, an epoch may end early, and resuming goes on counting."""
    timed = settings(disc_data, minutes=1, repeat=2, progressive=True, imgsz=64, lr=1e-3)
    printed = []
    monkeypatch.setattr(
        "rwkv_edge.training.progress.Progress.epoch_done", lambda self, *args: printed.append(args)
    )
    monkeypatch.setattr("rwkv_edge.training.run.time", Clock())
    train(timed, tmp_path / "whole")
    rows = read_rows(tmp_path / "whole")
    assert [int(row["imgsz"]) for row in rows] == sorted(int(row["imgsz"]) for row in rows)
    assert rows[0]["imgsz"] == "32"
    assert float(rows[-1]["lr"]) == pytest.approx(1e-5)
    assert sum(float(row["seconds"]) for row in rows) <= 60
    assert "of 1 min" in printed[-1][0]

    class KilledError(Exception): ...

    def kill(*args: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr("rwkv_edge.training.progress.Progress.epoch_done", kill)
        with pytest.raises(KilledError):
            train(timed, tmp_path / "cut")
    train(timed, tmp_path / "cut", resume=True)
    resumed = read_rows(tmp_path / "cut")
    assert len(resumed) == len(rows)
    assert sum(float(row["seconds"]) for row in resumed) <= 60


def test_extra_pairs_init_and_bfloat16(finished: Path, disc_data: Path, tmp_path: Path) -> None:
    best = finished / "weights" / "best.safetensors"
    extra = Path(shutil.copytree(disc_data / "validation", tmp_path / "extra"))
    run = settings(disc_data, epochs=1, init=best, extra=(extra,), amp=True, lr=1e-9)
    train(run, tmp_path / "run")
    start, end = (
        load_model(p)[0].state_dict() for p in (best, tmp_path / "run/weights/best.safetensors")
    )
    name = "encoder.stage3.1.att.key.weight"
    torch.testing.assert_close(start[name], end[name], atol=1e-5, rtol=0)


def test_several_classes(disc_data: Path, tmp_path: Path) -> None:
    for split in ("train", "validation"):
        for part in ("images", "masks"):
            (tmp_path / split / part).mkdir(parents=True)
        for path in (disc_data / split / "images").iterdir():
            (tmp_path / split / "images" / path.name).write_bytes(path.read_bytes())
            mask = cv2.imread(str(disc_data / split / "masks" / path.name), 0)
            mask = (mask > 0).astype("uint8") * (1 + int(path.stem) % 2)
            cv2.imwrite(str(tmp_path / split / "masks" / path.name), mask)
    (tmp_path / "data.yaml").write_text(
        "path: .\ntrain: train\nval: validation\nnames: [background, polyp, tool]\n"
    )
    best = train(settings(tmp_path / "data.yaml", epochs=1), tmp_path / "run")
    _, info = load_model(best)
    assert info.names == ("background", "polyp", "tool")
    assert info.num_classes == 3


def test_bad_pairs_are_listed_before_training(disc_data: Path, tmp_path: Path) -> None:
    for part in ("images", "masks"):
        (tmp_path / "d" / part).mkdir(parents=True)
        for path in (disc_data / "train" / part).iterdir():
            (tmp_path / "d" / part / path.name).write_bytes(path.read_bytes())
    (tmp_path / "d/images/0.png").write_bytes(b"")
    (tmp_path / "d/images/1.png").write_text("not an image")
    with pytest.raises(DataError, match=r"(?s)2 problems.*0\.png.*1\.png"):
        train(settings(tmp_path / "d"), tmp_path / "run")
    assert not (tmp_path / "run" / "results.csv").exists()


def test_pictures_of_both_splits_are_refused(disc_data: Path, tmp_path: Path) -> None:
    listing = tmp_path / "d.yaml"
    listing.write_text(f"path: {disc_data}\ntrain: train\nval: train\n")
    with pytest.raises(DataError, match="12 images of 'val' are also trained on, as"):
        train(settings(listing), tmp_path / "run")
    extra = settings(disc_data, extra=(disc_data / "validation",))
    with pytest.raises(DataError, match="4 images of 'val' are also trained on, as"):
        train(extra, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_without_another_split_the_training_images_judge(disc_data: Path, tmp_path: Path) -> None:
    listing = tmp_path / "d.yaml"
    listing.write_text(f"path: {disc_data}\ntrain: train\n")
    train(settings(listing, variant="unet", epochs=1), tmp_path / "run")
    assert (tmp_path / "run/weights/best.safetensors").is_file()


def test_impossible_settings(disc_data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a positive multiple of 16"):
        train(settings(disc_data, imgsz=100), tmp_path)
    with pytest.raises(UsageError, match="device 'warp' is not available"):
        train(settings(disc_data, device="warp"), tmp_path)
    with pytest.raises(UsageError, match="--cuda-graph needs a CUDA GPU"):
        train(settings(disc_data, device="cpu", cuda_graph=True), tmp_path)
    with pytest.raises(UsageError, match="tinyy"):
        train(settings(disc_data, variant="tinyy"), tmp_path)
    with pytest.raises(CheckpointError, match="none: no such file"):
        train(settings(disc_data, init=Path("none")), tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(CheckpointError, match="cannot be resumed"):
        train(settings(disc_data), tmp_path, resume=True)
    with pytest.raises(UsageError, match=r"--batch 4 cannot be shared .* give a multiple of 3"):
        train(settings(disc_data, accumulate=3), tmp_path)
    with pytest.raises(DataError, match="12 training images are too few for 16 at a time"):
        train(settings(disc_data, batch=16, accumulate=16), tmp_path)


def test_a_run_from_before_the_speed_was_measured_resumes(tmp_path: Path) -> None:
    old, new = dict.fromkeys(COLUMNS[:7], 1.0), dict.fromkeys(COLUMNS, 2.0)
    table = ",".join(old) + "\n" + ",".join("1" * len(old)) + "\n"
    (tmp_path / "results.csv").write_text(table)
    results = Results(tmp_path, 1)
    assert results.rows == [old]
    results.add(new)
    results.write()
    again = Results(tmp_path, 2)
    assert again.rows == [old, new]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("all",), "no 'val' split: validated on the training images themselves"),
        (("train", "test"), "no 'val' split: the test images choose the best weights"),
        (("train", "val"), ""),
    ],
)
def test_a_missing_validation_split_is_named(
    names: tuple[str, ...], message: str, disc_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = load_dataset(disc_data)
    pairs = data.pairs("train")
    _warn_of_validation(dataclasses.replace(data, splits=dict.fromkeys(names, pairs)))
    said = capsys.readouterr().err
    assert message in said
    assert bool(said) == bool(message)
