"""The command on the shipped Tiny and on foreign ONNX files; rendered and drawn pictures only."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rwkv_edge.cli import main
from tests.data.pictures import disc, save_pair
from tests.runtime.test_foreign import write_model


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight pictures whose red is the mask, too fine for a network, and a model that sees red."""
    monkeypatch.chdir(tmp_path)
    for index in range(8):
        mask = disc(radius=8 + index)
        mask[::2] = 0
        save_pair(tmp_path / "data", f"{index}", np.dstack([mask * 0, mask * 0, mask]), mask)
    write_model(tmp_path / "red.onnx", [1, 3, 48, 64], planes=1)
    return Path("data")


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["compare", "--data", "data", *words])
    assert isinstance(caught.value.code, int)
    return caught.value.code


RED = ("red.onnx", "rgb,probability")


def test_tiny_against_a_foreign_model(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--a", "tiny", "--b", RED[0], "--b-preprocess", RED[1], "--rounds", "3"]
    assert run(*words, "--output", "out", "--json", "-") == 0
    captured = capsys.readouterr()
    record = json.loads(captured.out)
    assert record == json.loads(Path("out/comparison.json").read_text())
    assert record["images"] == 8
    assert record["a"]["input_size"] == [256, 256]
    assert record["b"] | {"backend": ""} == {
        "model": "red.onnx",
        "backend": "",
        "input_size": [48, 64],
    }
    assert record["dice"]["b"]["value"] == 1
    assert record["dice"]["a"]["value"] < 1
    assert record["dice"]["winner"] in ("B", "not enough images")
    assert (record["latency"]["rounds"], record["latency"]["winner"]) == (3, "not enough rounds")
    assert record["latency"]["a"]["p50_ms"] > 0
    assert record["dice"]["verdict"] in captured.err
    assert captured.err.count("data, no split: images that the model was trained on may be") == 1
    page = Path("out/report.html").read_text()
    assert "8 images: data, no split: images that" in page
    assert record["dice"]["verdict"] in page
    assert page.count("data:image/jpeg") == 12


def test_with_itself(data: Path) -> None:
    both = [word for side in "ab" for word in (f"--{side}", RED[0], f"--{side}-preprocess", RED[1])]
    assert run(*both, "--limit", "3", "--rounds", "2", "--json", "a.json") == 0
    record = json.loads(Path("a.json").read_text())
    assert record["images"] == 3
    assert [record[name]["winner"] for name in ("dice", "false_alarm_rate")] == ["same", "same"]
    assert Path("runs/compare/exp/report.html").is_file()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("--a red.onnx --b tiny", 1, "declare its input with --a-preprocess"),
        ("--a tiny --b tiny --b-preprocess rgb", 2, "--b-preprocess is for ONNX files, not for"),
        ("--a tiny --b tiny --rounds 1", 2, "--rounds 1: it must be 2 or more"),
        ("--a tiny --b tiny --limit 0", 2, "--limit 0: it must be 1 or more"),
        ("--a tiny --b base", 1, "no weights ship for 'base'"),
        ("--a tiny --b none.safetensors", 1, "none.safetensors: no such file"),
        ("--a red.onnx --a-preprocess rbg --b tiny", 2, "preprocessing 'rbg': choose among"),
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
