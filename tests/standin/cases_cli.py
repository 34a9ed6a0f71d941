"""`run`, `eval` and `build` on the stand-in TensorRT; run by tests/cli/test_loading.py."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from rwkv_edge.cli import main
from rwkv_edge.runtime.manifest import read_manifest
from tests.cli.test_run import SIDE, json_lines, save_model, square
from tests.standin.conftest import Standin

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: Standin) -> None:
    """A model, pictures that it finds something in, and a cache of one's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # without tensorrt-rtx, which cannot use the stand-in driver
    monkeypatch.setattr("rwkv_edge.cli.engine_cache.TENSORRT_RTX", "tensorrt")
    save_model(tmp_path / "brightness.onnx")
    for part in ("images", "masks"):
        Path("data", part).mkdir(parents=True)
    for index in range(2):
        image = square(index)
        cv2.imwrite(f"data/images/{index}.png", image)
        cv2.imwrite(
            f"data/masks/{index}.png", np.where(image[..., 0] > 127, 255, 0).astype(np.uint8)
        )


def command(*words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(words))
    return int(caught.value.code or 0)


def run(*words: str, model: str = "brightness.onnx") -> int:
    source = ("--source", "data/images", "--model", model, "--no-save", "--json", "-")
    return command("run", *source, *words)


def build(*words: str) -> int:
    given = ("--onnx", "brightness.onnx", "--calib", "data", "--backend", "tensorrt")
    return command("build", *given, *words)


def only_error(captured: Captured) -> str:
    lines = captured.readouterr().err.splitlines()
    (line,) = (line for line in lines if line.startswith("error: "))
    assert lines[-1] == line
    return line


def chosen(captured: Captured) -> str:
    """The line of `--backend auto`; standard output holds nothing but JSON lines."""
    printed = captured.readouterr()
    assert [line["components"] != [] for line in json_lines(printed.out)] == [True, True]
    (line,) = (line for line in printed.err.splitlines() if line.startswith("backend: "))
    return line


def test_auto_takes_the_engine_that_build_left(capsys: Captured) -> None:
    assert run() == 0
    line = chosen(capsys)
    assert line.startswith("backend: onnxruntime")
    source = "brightness.onnx"
    assert f"Stand-in 0 here, but no engine yet: rwkv-edge build --onnx {source} --fp16" in line
    assert build("--fp16") == 0
    printed = capsys.readouterr().out
    assert "gate: passed in ONNX Runtime; Dice 1.0" in printed
    assert "gate: passed by the engine, tensorrt 10.3.0 on Stand-in 0 (fp16, CUDA g" in printed
    assert "wrote brightness-fp16.engine" in printed
    assert "kept in the cache" in printed
    assert run() == 0
    line = chosen(capsys)
    assert line.startswith("backend: tensorrt 10.3.0 on Stand-in 0 (fp16, CUDA graph) (the engine")
    assert str(Path("cache").absolute()) in line
    assert run("--backend", "onnxruntime") == 0
    save_model(Path("brightness.onnx"), divisor=256.0)  # another model has no engine
    assert run() == 0
    assert "no engine yet" in capsys.readouterr().err


def test_an_engine_belongs_to_the_model_and_not_to_its_place(capsys: Captured) -> None:
    Path("other").mkdir()
    shutil.copyfile("brightness.onnx", "other/brightness.onnx")
    assert build("--fp16") == 0
    save_model(Path("brightness.onnx"), divisor=256.0)
    capsys.readouterr()
    assert run(model="other/brightness.onnx") == 0
    assert "(fp16, CUDA graph)" in chosen(capsys)


def test_an_engine_for_batches_is_not_taken_for_single_frames(capsys: Captured) -> None:
    assert build("--fp16", "--batch", "4") == 0
    assert "kept in the cache" not in capsys.readouterr().out


def test_the_last_build_counts(capsys: Captured) -> None:
    assert build("--fp16") == build() == 0
    capsys.readouterr()
    assert run() == 0
    assert "(fp32, CUDA graph)" in chosen(capsys)
    assert len(list(Path("cache").rglob("*.engine"))) == 1
    Path("out").mkdir()
    assert build("--fp16", "--output", "out/mine.engine") == 0
    assert "kept in the cache" not in capsys.readouterr().out


def test_a_gpu_of_the_same_name_has_an_engine_of_its_own(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert build("--fp16") == 0
    capsys.readouterr()
    monkeypatch.setenv("STANDIN_MULTIPROCESSORS", "8")
    assert run() == 0
    assert "no engine yet" in chosen(capsys)
    assert build("--fp16") == 0
    assert len(list(Path("cache").rglob("*.engine"))) == 2


def test_an_engine_is_built_once(capsys: Captured) -> None:
    for index in range(2):
        assert run("--backend", "tensorrt") == 0
        printed = capsys.readouterr()
        assert len(json_lines(printed.out)) == 2
        assert ("building one in float16, once" in printed.err) == (index == 0)
        assert "tensorrt 10.3.0 on Stand-in 0 (fp16, CUDA graph)" in printed.err
    (engine,) = Path("cache").rglob("*.engine")
    manifest = read_manifest(engine)
    assert manifest.gate is not None
    assert manifest.gate["ran"].startswith("the engine, tensorrt 10.3.0 on Stand-in 0")
    assert manifest.precision == "fp16"
    assert Path("cache/rwkv-edge").stat().st_mode & 0o777 == 0o700


def test_eval_and_run_agree_on_a_given_engine(capsys: Captured) -> None:
    assert build("--output", "mine.engine") == 0
    figures = []
    for model in ("mine.engine", "brightness.onnx"):
        capsys.readouterr()
        assert command("eval", "--data", "data", "--model", model, "--json", "-") == 0
        printed = capsys.readouterr()
        figures.append(json.loads(printed.out))
        assert "backend: " in printed.err
    assert "tensorrt 10.3.0" in figures[0]["backend"]
    assert figures[0]["mean_dice"] == figures[1]["mean_dice"] > 0.9
    assert run(model="mine.engine") == 0
    assert "(the engine that was given)" in chosen(capsys)


def test_engines_may_be_called_plans(capsys: Captured) -> None:
    assert build("--output", "mine.plan") == 0
    capsys.readouterr()
    assert run(model="mine.plan") == 0
    assert "(the engine that was given)" in chosen(capsys)


@pytest.mark.parametrize(("allowed", "code"), [("1", 0), ("0.005", 1)])
def test_benchmark_allows_what_the_gate_allowed(
    allowed: str, code: int, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnx.load("brightness.onnx")
    onnx.helper.set_model_props(model, {"weights_sha256": "abc"})
    onnx.save(model, "brightness.onnx")
    if code == 0:  # else the engine was right when it was built
        monkeypatch.setenv("STANDIN_SPOILS", "opposite")
    assert build("--max-dice-drop", allowed, "--output", "mine.engine") == 0
    monkeypatch.setenv("STANDIN_SPOILS", "opposite")
    assert read_manifest(Path("mine.engine")).max_dice_drop == float(allowed)
    capsys.readouterr()
    models = ("--model", "brightness.onnx", "--model", "mine.engine")
    quick = ("--source", "data/images", "--frames", "5", "--warm-up", "0", "--output", "out")
    assert command("benchmark", *models, *quick) == code
    if code:
        assert "a loss of 0.005 is allowed); not timed" in only_error(capsys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--backend", "onnxruntime"], "does not run engines"),
        (["--backend", "torch"], "runs a checkpoint"),
        (["--imgsz", "128"], f"was made for {SIDE}x{SIDE}; build it again"),
    ],
)
def test_what_an_engine_does_not_do(words: list[str], message: str, capsys: Captured) -> None:
    assert build("--output", "mine.engine") == 0
    assert run(*words, model="mine.engine") == 2
    assert message in only_error(capsys)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(
    ("result", "message"),
    [("nan", f"allowed, with {2 * SIDE * SIDE} values not finite"), ("opposite", "loses 1.0")],
)
def test_an_engine_that_computes_otherwise_is_not_handed_over(
    result: str, message: str, precision: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_SPOILS", result)
    assert build("--precision", precision) == 1
    line = only_error(capsys)
    assert f"the {precision} engine loses" in line
    assert message in line
    assert list(Path().rglob("*.engine*")) == []
    assert run("--backend", "tensorrt") == 1
    assert list(Path().rglob("*.engine*")) == []


def test_nothing_to_compare(capsys: Captured) -> None:
    for path in Path("data/images").iterdir():
        cv2.imwrite(str(path), np.zeros((SIDE, SIDE, 3), np.uint8))
    assert build() == 1
    assert "float32 finds nothing in these 2 images" in only_error(capsys)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_cache_that_others_can_write(mode: int, capsys: Captured) -> None:
    assert build("--fp16") == 0
    folder = Path("cache/rwkv-edge").absolute()
    folder.chmod(mode)
    capsys.readouterr()
    assert run() == 0
    line = chosen(capsys)
    assert line.startswith("backend: onnxruntime")
    assert f"{folder}: others can write into it, and engines and plugins are code" in line
    assert run("--backend", "tensorrt") == 1
    assert f"chmod go-w {folder}" in only_error(capsys)
    assert build() == 0  # the engine that was asked for is written
    assert "warning: not kept in the cache: " in capsys.readouterr().err


def test_a_cache_of_somebody_else(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    assert build("--fp16") == 0
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert run("--backend", "tensorrt") == 1
    assert "belongs to another user" in only_error(capsys)


def test_no_cuda_package(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    assert build("--output", "mine.engine") == 0
    for name in ("pycuda.driver", "cuda.bindings.driver"):
        monkeypatch.setitem(sys.modules, name, None)
    capsys.readouterr()
    assert build() == 1
    printed = capsys.readouterr()
    assert "pip install cuda-python" in printed.err
    assert printed.out == ""  # before the long work, not after
    assert run(model="mine.engine") == 1
    assert "pip install cuda-python" in only_error(capsys)


def test_a_damaged_engine_in_the_cache(capsys: Captured) -> None:
    assert build("--fp16") == 0
    (engine,) = Path("cache").rglob("*.engine")
    engine.write_bytes(engine.read_bytes()[:100])
    for backend in ("auto", "tensorrt"):
        assert run("--backend", backend) == 1
        assert "damaged or not the one that was built; build it again" in only_error(capsys)
