from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from rwkv_edge.cli import main
from rwkv_edge.data.synth import render_image
from rwkv_edge.files import file_sha256
from rwkv_edge.runtime.backend import Backend
from rwkv_edge.runtime.manifest import read_manifest
from rwkv_edge.runtime.plugin import LIBRARY, Plugin
from rwkv_edge.weights import shipped_onnx
from tests.cli.test_cli import fails

AHEAD = ("--backend", "tensorrt-rtx", "--compute-capability", "8.6")


def run(*words: str) -> None:
    main([*words])


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calib")
    (folder / "images").mkdir()
    for seed in range(2):
        frame = render_image(seed, (200, 240)).image
        cv2.imwrite(str(folder / "images" / f"{seed}.png"), frame)
    return folder


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fp16", "--int8"], "give one precision"),
        (["--fp16", "--precision", "bf16"], "give one precision"),
        (["--precision", "fp8"], "choose one of fp32, fp16, bf16, int8"),
        (["--int8"], "--int8 needs --calib DIR"),
        (["--batch", "0"], "--batch 0: give N, or MIN,OPT,MAX"),
        (["--batch", "4,2,8"], "in rising order"),
        (["--batch", "1,2"], "in rising order"),
        (["--max-dice-drop", "2"], "--max-dice-drop 2: it must lie between 0 and 1"),
        (["--workspace", "0"], "--workspace 0: it must be 1 or more"),
        (["--plugin", "x", "--no-plugin"], "exclude each other"),
        (["--backend", "abacus"], "choose one of auto, tensorrt, tensorrt-rtx"),
        (["--onnx", "x.onnx", "--imgsz", "256"], "--onnx excludes"),
        (["--onnx", "x.onnx", "--variant", "tiny"], "--onnx excludes"),
        (["--compute-capability", "sm_86"], "--compute-capability sm_86: give it as 8.7 or 87"),
        (["--imgsz", "100"], "not a positive multiple of 16"),
        (["--output", "tiny.trt"], "--output tiny.trt: call it NAME.engine or .plan"),
    ],
)
def test_wrong_usage(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = fails(capsys, "build", *words)
    assert code == 2
    assert message in line


def test_plugin_usage(capsys: pytest.CaptureFixture[str]) -> None:
    code, line = fails(capsys, "plugin", "build", "--arch", "orin")
    assert code == 2
    assert "give a compute capability, as 87 or 8.7" in line
    assert "exclude" in fails(capsys, "plugin", "build", "--headers", "x", "--fetch-headers")[1]
    assert "rwkv-edge plugin build makes it" in fails(capsys, "plugin", "info")[1]


def test_plugin_info(compiled_plugin: Plugin, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("plugin", "info", "--plugin", str(compiled_plugin.library.parent))
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert compiled_plugin.sha256 in text
    assert "architectures: 86" in text


def test_neither_tensorrt(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rwkv_edge.cli.engine.is_installed", lambda name: False)
    code, line = fails(capsys, "build")
    assert code == 1
    assert "neither TensorRT nor TensorRT-RTX is installed" in line


@pytest.mark.parametrize(
    ("missing", "words", "advice"),
    [
        ("onnx", [], "needs the package 'onnx'; install it with pip install onnx"),
        ("torch", ["--imgsz", "64"], "or give --onnx FILE, which rwkv-edge export wrote elsewhere"),
    ],
)
def test_missing_packages(
    missing: str,
    words: list[str],
    advice: str,
    tensorrt_rtx: Backend,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    code, line = fails(capsys, "build", *words, *AHEAD)
    assert code == 1
    assert line.endswith(advice)


def test_gpus_are_refused_before_any_work(
    tensorrt_rtx: Backend, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--onnx", "none.onnx", "--backend", "tensorrt-rtx"]
    code, line = fails(capsys, "build", *words, "--compute-capability", "8.7")
    assert code == 2
    assert "for another GPU, build on it" in line
    cache = ["--timing-cache", "times", "--compute-capability", "8.6"]
    assert "times nothing" in fails(capsys, "build", *words, *cache)[1]


def test_a_plugin_for_other_gpus(
    tensorrt_rtx: Backend, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine").mkdir()
    library = Path("mine", LIBRARY)
    library.write_bytes(b"")
    made = {"architectures": ["75", "87"], "cuda": "", "headers": "", "sources": ""}
    text = json.dumps({**made, "sha256": file_sha256(library)})
    library.with_suffix(".json").write_text(text)
    code, line = fails(capsys, "build", "--plugin", "mine", *AHEAD)
    assert code == 1
    assert "mine: compiled for 75, 87, but the engine is for 86; rwkv-edge plugin build" in line


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x0a" * 50])
def test_damaged_models(
    content: bytes, tensorrt_rtx: Backend, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad.onnx").write_bytes(content)
    code, line = fails(capsys, "build", "--onnx", "bad.onnx", *AHEAD)
    assert code == 1
    assert "bad.onnx" in line
    assert not list(elsewhere.glob("*.engine*"))


def test_no_plugin_there(tensorrt_rtx: Backend, capsys: pytest.CaptureFixture[str]) -> None:
    line = fails(capsys, "build", "--plugin", "nowhere", *AHEAD)[1]
    assert "rwkv-edge plugin build --output nowhere" in line


@pytest.mark.slow
def test_float16_in_one_line(
    compiled_plugin: Plugin,
    tensorrt_rtx: Backend,
    images: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = str(compiled_plugin.library.parent)
    words = ["--variant", "tiny", "--fp16", "--calib", str(images), "--plugin", folder]
    with pytest.raises(SystemExit) as caught:
        run("build", *words, *AHEAD)
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert re.search(r"gate: passed in ONNX Runtime, no GPU .*here; Dice (0\.99|1\.00)", text)
    assert "plugin layers: 4 BiWKV" in text
    engine = Path("rwkv-unet-tiny-256-fp16.engine")
    manifest = read_manifest(engine)
    assert manifest.engine_sha256 == file_sha256(engine)
    assert manifest.onnx_sha256 == file_sha256(shipped_onnx("tiny"))
    assert manifest.plugin_sha256 == compiled_plugin.sha256
    assert manifest.compute_capability == "8.6"
    assert manifest.gpu is None
    assert manifest.backend_version == tensorrt_rtx.version
    assert manifest.shapes["image"] == ((1, 256, 256, 3),) * 3
    assert manifest.command[:2] == ("rwkv-edge", "build")
    assert sorted(manifest.command[2:]) == sorted([*words, *AHEAD])
    assert manifest.gate is not None
    assert manifest.gate["images"] == 2
    assert "the engine itself was not run" in manifest.gate["ran"]
    assert len(manifest.weights_sha256) == 64
    assert sorted(p.name for p in Path().iterdir() if p.is_file()) == [
        engine.name,
        f"{engine}.json",
    ]
    json.loads(Path(f"{engine}.json").read_text())


def test_a_refusal_leaves_no_file(
    tensorrt_rtx: Backend, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("black").mkdir()
    cv2.imwrite("black/0.png", np.zeros((64, 64, 3), np.uint8))
    code, line = fails(capsys, "build", "--fp16", "--calib", "black", "--no-plugin", *AHEAD)
    assert code == 1
    assert "float32 finds nothing in these 1 images" in line
    assert not list(elsewhere.glob("*.engine*"))
    Path("black/0.png").unlink()
    assert "no images in it" in fails(capsys, "build", "--fp16", "--calib", "black", *AHEAD)[1]
    assert "no such folder" in fails(capsys, "build", "--fp16", "--calib", "none", *AHEAD)[1]
