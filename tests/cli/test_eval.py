from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from rwkv_edge.cli import main
from rwkv_edge.preprocess import FloatArray, UInt8Array
from rwkv_edge.runtime import ModelInfo, Runner
from tests.data.pictures import disc, save, save_pair

KEYS = {
    "images",
    "mean_dice",
    "mean_iou",
    "pooled_dice",
    "precision",
    "recall",
    "false_positive_rate",
    "lesion_sensitivity",
    "false_alarms_per_image",
    "mean_dice_network",
    "mean_iou_network",
    "mae",
    "s_measure",
    "e_measure",
    "weighted_f_measure",
    "hd95",
    "calibration_error",
    "intervals_95",
    "by_size",
    "lesion_free",
    "hd95_images",
    "reliability",
    "backend",
    "weights",
    "data",
    "split",
    "confidence",
    "input_size",
}


class BlueRunner(Runner):
    """Takes what is blue for a polyp."""

    info = ModelInfo("tiny", ("polyp",), (64, 64), "shipped Tiny")
    backend = "test 1.0"

    def __call__(self, image: UInt8Array) -> FloatArray:
        return image[:, None, :, :, 0].astype(np.float32) / 255


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Put the fake in place of the model; the list collects what was asked for."""
    calls: list[tuple[Any, ...]] = []

    def open_runner(*arguments: Any) -> Runner:
        calls.append(arguments)
        return BlueRunner()

    monkeypatch.setattr("rwkv_edge.cli.loading.open_runner", open_runner)
    return calls


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[tuple[Any, ...]]) -> Path:
    """Two images, one of them segmented perfectly and one missed, in an otherwise empty folder."""
    monkeypatch.chdir(tmp_path)
    picture = np.dstack([disc(), disc() * 0, disc() * 0])
    save_pair(tmp_path / "data", "found", picture, disc())
    save_pair(tmp_path / "data", "missed", picture * 0, disc())
    return Path("data")


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["eval", *words])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def test_results(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--data", "data", "--output", "out", "--json", "new/figures.json") == 0
    figures = json.loads(Path("new/figures.json").read_text())
    assert set(figures) == KEYS
    assert figures["images"] == 2
    assert figures["mean_dice"] == pytest.approx(0.5, abs=0.01)
    assert figures["pooled_dice"] == pytest.approx(2 / 3, abs=0.01)
    assert figures["recall"] == pytest.approx(0.5, abs=0.01)
    assert (figures["backend"], figures["weights"]) == ("test 1.0", "shipped Tiny")

    kept = json.loads(Path("out/metrics.json").read_text())
    assert figures == kept
    assert (kept["split"], kept["confidence"], kept["input_size"]) == ("all", 0.5, [64, 64])
    with open("out/per_image.csv", newline="") as file:
        assert [row["image"] for row in csv.DictReader(file)] == ["found.png", "missed.png"]
    assert cv2.imread("out/worst.png").shape[1] == 512
    assert cv2.imread("out/reliability.png").std() > 5
    captured = capsys.readouterr()
    assert f"{figures['mean_dice']:.4f}" in captured.out
    assert "worst: missed.png, Dice 0.0000" in captured.out
    assert captured.out.startswith("data, no split: images that the model was trained on may be")
    assert not lines(captured.err)


def test_json_on_standard_output_is_alone_there(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--data", "data", "--json", "-") == 0
    captured = capsys.readouterr()
    assert set(json.loads(captured.out)) == KEYS
    assert "mean Dice" in captured.err


def test_without_scipy(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *rest: None if name == "scipy" else find_spec(name, *rest),
    )
    assert run("--data", "data", "--json", "a.json") == 0
    assert set(json.loads(Path("a.json").read_text())) == KEYS - {"weighted_f_measure"}
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "left out: the weighted F-measure needs the package 'scipy'; "
        "install it with pip install 'rwkv-edge[evaluation]'"
    )


def test_runs_are_numbered(data: Path) -> None:
    for _ in range(2):
        assert run("--data", "data", "--name", "tiny") == 0
    assert run("--data", "data") == 0
    runs = sorted(path.parent.as_posix() for path in Path("runs").rglob("metrics.json"))
    assert runs == ["runs/eval/exp", "runs/eval/tiny", "runs/eval/tiny2"]


def test_options_reach_the_model(data: Path, opened: list[tuple[Any, ...]]) -> None:
    words = ["--weights", "w.pth", "--variant", "base", "--backend", "torch", "--imgsz", "64"]
    assert run("--data", "data", *words, "--json", "a.json") == 0
    assert opened == [(Path("w.pth"), None, "base", "torch", "64")]
    assert json.loads(Path("a.json").read_text())["weights"] == "w.pth"


def test_split(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_pair(Path("splits/train"), "0")
    assert run("--data", "splits", "--output", "out") == 1  # nobody evaluates on it by accident
    for split, count in (("test", 2), ("val", 3)):
        for index in range(count):
            save_pair(Path("splits") / split, f"{index}")
        assert run("--data", "splits", "--output", "out") == 0
        assert json.loads(Path("out/metrics.json").read_text())["images"] == count
        captured = capsys.readouterr()
        said = "splits: no 'val' split, so it is 'test' that is measured" in captured.err
        assert said is (split == "test")
        assert captured.out.startswith(f"splits, split '{split}'\n")
    assert run("--data", "splits", "--limit", "2", "--output", "out") == 0
    assert json.loads(Path("out/metrics.json").read_text())["images"] == 2
    assert run("--data", "splits", "--split", "train", "--output", "out") == 0
    assert json.loads(Path("out/metrics.json").read_text())["images"] == 1


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("--data data --conf 1.5", 2, "--conf 1.5: it must lie between 0 and 1"),
        ("--data data --conf nan", 2, "--conf nan: it must lie between 0 and 1"),
        ("--data data --split dev", 2, "--split dev: choose one of train, val, test, all"),
        ("--data data --split test", 1, "data: no 'test' split (found: all)"),
        ("--data nothing", 1, "nothing: no such data set"),
        ("--data runs.txt", 1, "runs.txt: no such data set"),
        ("--data data --output runs.txt/out", 1, "cannot write into runs.txt/out: Not a directory"),
        ("--data data --json runs.txt/a.json", 1, "cannot write into runs.txt: Not a directory"),
    ],
)
def test_refused_in_one_line_before_the_model_is_loaded(
    data: Path,
    opened: list[tuple[Any, ...]],
    capsys: pytest.CaptureFixture[str],
    words: str,
    code: int,
    message: str,
) -> None:
    Path("runs.txt").write_text("a file in the way")
    before = sorted(Path().rglob("*"))
    assert run(*words.split()) == code
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith(f"error: {message}")
    assert not captured.out
    assert not opened
    assert sorted(Path().rglob("*")) == before


def test_unpaired_files_are_listed_before_the_model_is_loaded(
    data: Path, opened: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    save(data / "images" / "lonely.png", disc())
    save(data / "masks" / "orphan.png", disc())
    assert run("--data", "data") == 1
    first, *problems = capsys.readouterr().err.splitlines()
    assert first == "error: data: 2 problems"
    assert problems == [
        "  data/images/lonely.png: has no mask in data/masks",
        "  data/masks/orphan.png: has no image in data/images",
    ]
    assert not opened


def test_unreadable_files_are_listed_and_nothing_is_written(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "images" / "found.png").write_text("text")
    save(data / "masks" / "missed.png", disc(20, 20))
    before = sorted(Path().rglob("*"))
    assert run("--data", "data", "--json", "a.json") == 1
    first, *problems = lines(capsys.readouterr().err)
    assert first == "error: data: 2 problems"
    assert problems == [
        "  data/images/found.png: not an image that can be decoded",
        "  data/masks/missed.png: 20 x 20 pixels, but its image has 64 x 48",
    ]
    assert sorted(Path().rglob("*")) == before


def test_model_of_other_classes(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.yaml").write_text("val: data\nnames: [polyp, tool]\n")
    assert run("--data", "a.yaml") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "error: a.yaml: has the classes background, polyp, tool, but the model knows polyp"
    )
