from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rwkv_edge.cli import main
from rwkv_edge.data.layouts import ACDC
from rwkv_edge.models import CheckpointInfo, create_model, save_checkpoint
from rwkv_edge.preprocess import FloatArray, UInt8Array
from rwkv_edge.runtime import ModelInfo, Runner
from tests.data.volumes import write_acdc, write_synapse


class LevelRunner(Runner):
    """Takes four levels of brightness for ACDC's classes, and is never surer than 0.4."""

    info = ModelInfo("tiny", ACDC, (64, 64), "by hand")
    backend = "test 1.0"

    def __call__(self, image: UInt8Array) -> FloatArray:
        level = np.rint((image[..., 0] / 255 - 0.05) * 4).clip(0, 3)
        return (np.arange(4)[None, :, None, None] == level[:, None]) * np.float32(0.2) + 0.2


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    calls: list[Any] = []

    def open_runner(*arguments: Any) -> Runner:
        calls.append(arguments)
        return LevelRunner()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rwkv_edge.cli.loading.open_runner", open_runner)
    return calls


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(words))
    return int(caught.value.code or 0)


def test_figures_of_volumes(opened: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    write_acdc(Path("acdc"))
    assert run("eval", "--data", "acdc", "--output", "out", "--json", "figures.json") == 0
    figures = json.loads(Path("figures.json").read_text())
    assert (figures["volumes"], figures["slices"], figures["dice"]) == (1, 5, 1.0)
    assert list(figures["classes"]) == list(ACDC[1:])
    kept = json.loads(Path("out/metrics.json").read_text())
    assert figures.items() <= kept.items()
    assert (kept["split"], kept["confidence"]) == ("test", 0.0)
    with Path("out/per_volume.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["volume"] == "case_002_volume_ED.npz"
    shown = capsys.readouterr().out
    assert "myocardium" in shown
    assert "empty classes count as published" in shown


def test_confidence_is_taken_if_given(opened: list[Any]) -> None:
    write_acdc(Path("acdc"))
    assert run("eval", "--data", "acdc", "--conf", "0.5", "--json", "a.json") == 0
    figures = json.loads(Path("a.json").read_text())
    assert figures["dice"] == 0.0
    assert figures["classes"]["myocardium"]["missed"] == 1


def test_validation_slices_count_as_images(opened: list[Any]) -> None:
    write_acdc(Path("acdc"))
    assert run("eval", "--data", "acdc", "--split", "val", "--json", "a.json") == 0
    figures = json.loads(Path("a.json").read_text())
    assert (figures["images"], figures["lesion_free"]["images"]) == (1, 0)


def test_refused_before_the_model_is_loaded(
    opened: list[Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_synapse(Path("synapse"))
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert run("eval", "--data", "synapse") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "error: reading case0090.npy.h5 needs the package 'h5py'; "
        "install it with pip install 'rwkv-edge[volumes]'"
    )
    assert not opened


def test_classes_in_another_order(opened: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    write_acdc(Path("acdc"))
    names = [ACDC[0], *ACDC[:0:-1]]
    Path("d.yaml").write_text(f"path: acdc\nval: valid\nnames: {names}\n")
    assert run("eval", "--data", "d.yaml") == 1
    assert "but the model knows background, " in capsys.readouterr().err


def test_a_model_of_other_classes(opened: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    write_synapse(Path("synapse"))
    assert run("eval", "--data", "synapse") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: synapse: has the classes background, aorta, gallbladder,")
    assert not Path("runs").exists()


def test_compare_on_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_acdc(Path("acdc"))
    weights = Path("w.safetensors")
    save_checkpoint(
        weights, create_model("unet", 4).state_dict(), CheckpointInfo("unet", 4, ACDC, (32, 32))
    )
    words = ["--a", str(weights), "--b", str(weights), "--backend", "torch", "--rounds", "2"]
    assert run("compare", "--data", "acdc", "--split", "val", "--output", "out", *words) == 0
    assert Path("out/report.html").is_file()
    assert run("eval", "--data", "acdc", "--limit", "1", "--weights", str(weights)) == 2
    assert "--limit: counts images" in capsys.readouterr().err


def test_train_on_slices_then_evaluate_volumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the real network, for two epochs: the way is what is tested, not the figures."""
    monkeypatch.chdir(tmp_path)
    write_acdc(Path("acdc"))
    words = ["--variant", "unet", "--imgsz", "32", "--epochs", "2", "--device", "cpu"]
    assert run("train", "--data", "acdc", *words) == 0
    assert run("train", "--resume", "--lr", "1e-4") == 2
    assert "leave out --lr" in capsys.readouterr().err
    weights = "runs/train/exp/weights/best.safetensors"
    words = ["--weights", weights, "--backend", "torch", "--json", "a.json"]
    assert run("eval", "--data", "acdc", *words) == 0
    figures = json.loads(Path("a.json").read_text())
    assert figures["volumes"] == 1
    assert 0 <= figures["dice"] <= 1
