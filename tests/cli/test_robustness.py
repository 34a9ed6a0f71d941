from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from rwkv_edge.cli import main
from tests.data.pictures import disc, save_pair
from tests.runtime.test_foreign import write_model

RED = ("--model", "red.onnx", "--preprocess", "rgb,probability")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two data sets whose red is the mask, the second pale, and a model that sees red."""
    monkeypatch.chdir(tmp_path)
    for folder, share in (("strong", 1.0), ("pale", 0.4)):
        for index in range(3):
            mask = disc(radius=10 + index)
            image = np.dstack([mask * 0, mask * 0, (mask * share).astype(np.uint8)])
            save_pair(tmp_path / folder, f"{index}", image, mask)
    write_model(tmp_path / "red.onnx", [1, 3, 48, 64], planes=1)
    return tmp_path


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["robustness", *words])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_two_data_sets(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--data", "strong", "--data", "pale", "--limit", "2", "--only", "exposure,JPEG"]
    assert run(*words, *RED, "--output", "out", "--json", "a.json") == 0
    record = json.loads(Path("a.json").read_text())
    assert record == json.loads(Path("out/robustness.json").read_text())
    strong, pale = record["data"]["strong"], record["data"]["pale"]
    assert (strong["images"], strong["clean"]["dice"]) == (2, 1)
    assert list(strong["dice"]) == ["exposure", "JPEG"]
    assert 0 < strong["relative_dice"] < 1
    assert (pale["clean"]["dice"], pale["relative_dice"]) == (0, None)
    with open("out/robustness.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 2 * (1 + 2 * 5)
    assert cv2.imread("out/curves.png").std() > 5
    assert cv2.imread("out/corruptions.png").shape[1] == 5 * 256
    out = capsys.readouterr().out
    assert f"{strong['relative_dice']:.4f}" in out
    assert "strong, no split: " in out
    assert "pale, no split: " in out


def test_shipped_tiny(data: Path) -> None:
    assert run("--data", "strong", "--limit", "1", "--only", "noise", "--json", "a.json") == 0
    assert json.loads(Path("a.json").read_text())["model"] == "tiny"
    assert Path("runs/robustness/exp/curves.png").is_file()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("--data strong --only rain", 2, "--only rain: choose among exposure, "),
        ("--data strong --seed -1", 2, "--seed -1: it must lie between 0 and 4294967295"),
        ("--data strong --data strong", 2, "the same data set is given twice"),
        ("--data strong --model red.onnx", 1, "declare its input with --preprocess"),
        ("--data nothing", 1, "nothing: no such data set"),
    ],
)
def test_refused_in_one_line(
    data: Path, capsys: pytest.CaptureFixture[str], words: str, code: int, message: str
) -> None:
    assert run(*words.split()) == code
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ")
    assert message in line
    assert not Path("runs").exists()
