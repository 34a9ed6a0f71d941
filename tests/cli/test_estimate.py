from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from rwkv_edge.bench.devices import DEVICES
from rwkv_edge.cli import main
from tests.cli.test_cli import fails


def rwkv_edge(*words: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([*map(str, words)])
    return int(caught.value.code or 0)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_every_jetson(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--top", 3, "--json", "out.json", "--csv", "out.csv")
    assert rwkv_edge("estimate", *words) == 0
    printed = capsys.readouterr().out
    assert "An estimate from the graph and published figures, not a measurement" in printed
    assert "research use only" in printed
    found = json.loads(Path("out.json").read_text())
    expected = [(name, mode) for name, device in DEVICES.items() for mode in device.modes]
    rows = found["estimates"]
    assert [(row["device"], row["power_mode"]) for row in rows] == expected
    for row in rows:
        low, high = row["likely_ms"]
        assert 0 < row["bound_ms"] < low < high
        assert row["likely_fps"][0] == pytest.approx(1e3 / high)
        likely = [cost["likely_s"][0] for cost in row["most_expensive"]]
        assert len(likely) == 3
        assert likely == sorted(likely, reverse=True)
        assert row["most_expensive"][0]["name"] in printed or row is not rows[0]
    note, *lines = Path("out.csv").read_text().splitlines()
    assert "not a measurement" in note
    assert len(list(csv.DictReader(lines))) == len(expected)


def test_one_mode_and_a_batch(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--device", "orin-nano-8gb", "--power-mode", "super", "--json", "-")
    bounds = []
    for batch in (1, 4):
        assert rwkv_edge("estimate", *words, "--batch", batch) == 0
        (row,) = json.loads(capsys.readouterr().out)["estimates"]
        assert (row["device"], row["power_mode"]) == ("orin-nano-8gb", "super")
        bounds.append(row["bound_ms"])
    assert 3.5 < bounds[1] / bounds[0] < 4  # weights are read once


def test_devices_without_a_figure_are_left_out_aloud(capsys: pytest.CaptureFixture[str]) -> None:
    assert rwkv_edge("estimate", "--precision", "int8", "--json", "-") == 0
    printed = capsys.readouterr()
    assert "left out: thor-t5000" in printed.err
    assert "thor-t5000" not in printed.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "abacus"], "choose one of all, orin-nano-4gb"),
        (["--device", "agx-orin-64gb", "--power-mode", "super"], "agx-orin-64gb has normal"),
        (["--precision", "fp8"], "choose one of fp32, fp16, int8"),
        (["--device", "thor-t5000", "--precision", "int8"], "no dense figure is published"),
        (["--model", "x.onnx", "--variant", "tiny"], "--model excludes"),
        (["--variant", "huge"], "choose one of tiny"),
        (["--batch", "0"], "--batch 0"),
        (["--top", "-1"], "--top -1"),
    ],
)
def test_wrong_usage(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = fails(capsys, "estimate", *words)
    assert code == 2
    assert message in line


def test_a_file_that_is_no_model(capsys: pytest.CaptureFixture[str]) -> None:
    Path("x.onnx").write_bytes(b"no model")
    code, line = fails(capsys, "estimate", "--model", "x.onnx")
    assert code == 1
    assert "x.onnx" in line
