from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

from rwkv_edge.bench.meters import CARD, Found
from rwkv_edge.bench.power import Meter, Reading
from rwkv_edge.cli import main
from rwkv_edge.cli.candidates import _with_batch
from rwkv_edge.export.graph import input_shape, read_onnx, set_batch
from rwkv_edge.weights import shipped_onnx
from tests.cli.test_cli import fails
from tests.video.clips import numbered, write_clip

QUICK = ("--source", "clip.mp4", "--frames", "12", "--warm-up", "1", "--output", "out")
SIGMOID = "p = Sigmoid(c)"


def write_model(path: str, weights: str = "abc", end: str = SIGMOID, size: int = 32) -> None:
    """A model in the form that export writes: the brighter, the likelier."""
    text = f"""<ir_version: 9, opset_import: ["" : 18]>
        g (uint8[1,{size},{size},3] image) => (float[1,1,{size},{size}] probability) {{
        f = Cast<to = 1>(image)
        t = Transpose<perm = [0,3,1,2]>(f)
        axes = Constant<value_ints = [1]>()
        m = ReduceMean(t, axes)
        shift = Constant<value_float = 100.0>()
        c = Sub(m, shift)
        {end}
        probability = Identity(p) }}"""
    model = onnx.parser.parse_model(text)
    onnx.helper.set_model_props(model, {"variant": "toy", "weights_sha256": weights})
    onnx.save(model, path)


def rwkv_edge(*words: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([*map(str, words)])
    return int(caught.value.code or 0)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_clip(Path("clip.mp4"), numbered(5))
    write_model("a.onnx")
    return tmp_path


def read(path: str = "out/benchmark.json") -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(path).read_text())
    return content


def test_two_models_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    write_model("b.onnx")
    assert rwkv_edge("benchmark", "--model", "a.onnx", "--model", "b.onnx", *QUICK) == 0
    printed = capsys.readouterr()
    record = read()
    first, second = record["candidates"]
    assert first.startswith("a 32x32, onnxruntime")
    for candidate in record["candidates"].values():
        stages = ["capture", "preprocess", "inference", "postprocess", "draw", "total"]
        assert list(candidate["stages"]) == stages  # and no copies, which the CPU does not have
        assert all(len(values) == 12 for values in candidate["samples_ms"].values())
        assert candidate["backend"].endswith("CPUExecutionProvider")
        assert candidate["fps"] > 0
    assert record["candidates"][second]["check"].startswith(f"agrees with {first}: Dice 1.0000")
    assert record["peak_host_mib"] > 10
    assert record["machine"]["onnxruntime"]
    assert f"time as a share of {first}" in printed.out
    assert "research use only" in printed.out
    assert "clocks" in printed.err
    lines = Path("out/benchmark.csv").read_text().splitlines()[1:]
    assert len(list(csv.DictReader(lines))) == 2 * 6
    assert cv2.imread("out/latency.png").shape[1] > 800


def test_a_card_does_not_tell_what_the_processor_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Card(Meter):
        name, measures = "NVML", CARD

        def read(self) -> Reading:
            return Reading(watts=20.0)

    monkeypatch.setattr("rwkv_edge.cli.timed.find_meter", lambda: Found(Card()))
    assert rwkv_edge("benchmark", "--model", "a.onnx", *QUICK) == 0
    (candidate,) = read()["candidates"].values()
    assert candidate["power"]["joules_per_frame"] is None
    assert "NVML measures the graphics card" in candidate["power"]["reason"]


def test_a_batch_counts_frames_not_calls() -> None:
    assert rwkv_edge("benchmark", "--model", "a.onnx", "--batch", "3", *QUICK) == 0
    (candidate,) = read()["candidates"].values()
    assert candidate["frames"] == 36
    mean = candidate["stages"]["total"]["mean_ms"]
    assert candidate["fps"] == pytest.approx(3e3 / mean, rel=1e-3)


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("n = Neg(c) p = Sigmoid(n)", "differs from the first runner of the same weights"),
        ("n = Sub(c, c) p = Div(n, n)", "its output is no probability"),
        ("far = Constant<value_float = 200.0>() p = Add(c, far)", "its output is no probability"),
    ],
)
def test_what_is_wrong_is_not_timed(
    end: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model("b.onnx", end=end)
    code, line = fails(capsys, "benchmark", "--model", "a.onnx", "--model", "b.onnx", *QUICK)
    assert code == 1
    assert line.startswith("error: b 32x32")
    assert message in line
    assert not Path("out").exists()


def test_other_weights_may_say_something_else() -> None:
    write_model("b.onnx", weights="other", end="n = Neg(c) p = Sigmoid(n)")
    assert rwkv_edge("benchmark", "--model", "a.onnx", "--model", "b.onnx", *QUICK) == 0


def test_comparison_with_an_earlier_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert rwkv_edge("benchmark", "--model", "a.onnx", *QUICK) == 0
    record = read()
    (candidate,) = record["candidates"].values()
    for stage, values in candidate["samples_ms"].items():
        candidate["samples_ms"][stage] = [1000 * value for value in values]
    Path("earlier.json").write_text(json.dumps(record))
    capsys.readouterr()
    words = ("--compare", "earlier.json", "--json", "-", "--csv", "own.csv")
    assert rwkv_edge("benchmark", "--model", "a.onnx", *QUICK, *words) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["benchmark_format"] == record["benchmark_format"]
    assert "as a share of earlier.json" in printed.err
    assert "total: 0.00" in printed.err
    assert Path("own.csv").read_text() == Path("out/benchmark.csv").read_text()


def test_untrained_weights_are_enough_for_latency() -> None:
    words = ("--variant", "unet", "--untrained", "--backend", "torch", "--imgsz", "32")
    assert rwkv_edge("benchmark", *words, "--threads", "1", *QUICK) == 0
    ((label, candidate),) = read()["candidates"].items()
    assert label.startswith("unet (untrained) 32x32, torch")
    assert candidate["variant"] == "unet"


def test_without_matplotlib_the_picture_alone_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert rwkv_edge("benchmark", "--model", "a.onnx", *QUICK) == 0
    assert "no latency.png" in capsys.readouterr().err
    assert Path("out/benchmark.json").is_file()
    assert not Path("out/latency.png").exists()


def test_a_still_image_is_repeated() -> None:
    cv2.imwrite("frame.png", np.full((40, 60, 3), 90, np.uint8))
    words = ("--source", "frame.png", "--frames", "10", "--output", "out")
    assert rwkv_edge("benchmark", "--model", "a.onnx", *words) == 0
    (candidate,) = read()["candidates"].values()
    assert candidate["frames"] == 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--frames", "0"], "--frames 0"),
        (["--batch", "0"], "--batch 0"),
        (["--seconds", "0"], "--seconds 0"),
        (["--warm-up", "-1"], "--warm-up -1"),
        (["--threads", "0"], "--threads 0"),
        (["--backend", "abacus"], "choose one of auto"),
        (["--untrained"], "--untrained says nothing without --variant"),
        (["--imgsz", "100"], "not a positive multiple of 16"),
        (["--model", "a.onnx", "--backend", "torch"], "none of the models runs"),
        (["--variant", "huge", "--untrained"], "choose one of tiny"),
    ],
)
def test_wrong_usage(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], elsewhere: Path
) -> None:
    code, line = fails(capsys, "benchmark", *words)
    assert code == 2
    assert message in line
    assert not (elsewhere / "runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "none.onnx"], "none.onnx: no such file"),
        (["--variant", "base"], "no weights ship for 'base'"),
        (["--model", "a.onnx", "--source", "none.mp4"], "no such source"),
        (["--model", "a.onnx", "--compare", "none.json"], "none.json"),
    ],
)
def test_failures(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = fails(capsys, "benchmark", *words)
    assert code == 1
    assert message in line


def test_a_file_for_batches_is_timed_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    batched = tmp_path / "batched.onnx"
    onnx.save(set_batch(read_onnx(shipped_onnx("tiny")), 4), batched)
    assert input_shape(read_onnx(_with_batch(batched, 1)))[0] == 1
    assert _with_batch(batched, 4) == batched
